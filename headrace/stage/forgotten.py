"""Items whose partitions were taken away: what their stage still says of them is for nobody.

A worker that was told to stop may never answer, so they are not all kept for good.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST = 20_000

Name = tuple[int, str]
"""A partition number and an item."""


class Forgotten:
    """Remembers items that were given up: all of the last time, and of the times before the newest, up to `most`."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._names: dict[Name, None] = {}

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: Name) -> bool:
        return name in self._names

    def add(self, names: Sequence[Name]) -> None:
        """These were given up together."""
        for name in names:
            self._names.pop(name, None)
            self._names[name] = None
        while len(self._names) > max(self._most, len(names)):
            del self._names[next(iter(self._names))]

    def discard(self, name: Name) -> None:
        """It is ours again."""
        if self._names:
            self._names.pop(name, None)
