"""Named kill points: places where a test stops a process for good, since random kills miss the narrow ones.

`point("name")` does nothing unless `HEADRACE_KILL_POINT=name` or `name:n` is set: then, at the n-th passage (from 1),
it writes its name into the file `HEADRACE_KILL_MARKER` and waits there for a SIGKILL.
"""

from __future__ import annotations

import itertools
import os
import threading
from pathlib import Path


class _Point:
    def __init__(self, wanted: str, marker: str) -> None:
        name, _, passage = wanted.partition(":")
        self.name = name
        self.passage = int(passage or 1)
        self.marker = Path(marker)
        self.passages = itertools.count(1)

    def reach(self) -> None:
        if next(self.passages) == self.passage:
            self.marker.write_text(self.name, "utf-8")
            threading.Event().wait()


_armed = (
    _Point(os.environ["HEADRACE_KILL_POINT"], os.environ["HEADRACE_KILL_MARKER"])
    if ("HEADRACE_KILL_POINT" in os.environ and "HEADRACE_KILL_MARKER" in os.environ)
    else None
)


def point(name: str) -> None:
    """Wait here for ever if a test asked for it, else nothing."""
    if _armed is not None and _armed.name == name:
        _armed.reach()
