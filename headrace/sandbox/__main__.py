"""Builds what the stand-ins need, so that they start at once and need no network later."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from headrace.errors import ConfigError
from headrace.sandbox.versitygw import ensure_versitygw, versitygw_here


def main(arguments: Sequence[str]) -> int:
    """Build the S3 server; with `--check` only tell by the exit code whether that was done."""
    if "--check" in arguments:
        return int(versitygw_here() is None)
    try:
        ensure_versitygw()
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
