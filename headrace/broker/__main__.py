"""Fetches and writes what the embedded broker needs, so that every later start is quick and needs no network."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from headrace.broker.archive import archive_path, ensure_archive
from headrace.broker.jars import ensure_jars, jars_here
from headrace.broker.java import find_java
from headrace.errors import HeadraceError

_MODES = (True, False)  # fast start or not


def main(arguments: Sequence[str]) -> int:
    """Prepare both modes; with `--check` only tell by the exit code whether that was done."""
    try:
        java = find_java()
        if "--check" in arguments:
            jars = jars_here()
            return int(jars is None or not all(archive_path(java, jars, fast_start=mode).exists() for mode in _MODES))
        jars = ensure_jars()
    except HeadraceError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for mode in _MODES:
        ensure_archive(java, jars, heap_mebibytes=256, fast_start=mode)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
