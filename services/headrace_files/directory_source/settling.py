"""When a file may be taken: its size and mtime have been still for a while. No clock, no file system inside."""

from __future__ import annotations

import heapq


class Settling:
    """Files that are waited for.

    Parameters:
        seconds: how long a file must have been still.

    Times `now` are seconds of a monotonic clock. No wait grows with idleness.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: dict[bytes, tuple[int, float]] = {}
        self._order: list[tuple[float, bytes]] = []

    def look(self, path: bytes, mark: int, now: float, still_for: float) -> None:
        """The file at `path` was seen with `mark`.

        Parameters:
            still_for: seconds since its mtime or ctime by the wall clock. It is believed only of a file that has not
                been seen to change: where the file server's clock is wrong, what is watched counts.
        """
        known = self._waiting.get(path)
        if known is None:
            due = now + self._seconds - min(max(still_for, 0.0), self._seconds)
        elif known[0] != mark:
            due = now + self._seconds
        else:
            return
        self._wait(path, mark, due)

    def changed(self, path: bytes, mark: int, now: float) -> None:
        """The file was seen to change just now, whatever its times say."""
        self._wait(path, mark, now + self._seconds)

    def later(self, path: bytes, mark: int, due: float) -> None:
        """Try again at `due`."""
        self._wait(path, mark, due)

    def forget(self, path: bytes) -> None:
        """The file is gone."""
        self._waiting.pop(path, None)

    def due(self, now: float) -> list[tuple[bytes, int]]:
        """Path and mark of the files that may be taken; they are waited for no longer."""
        ready = []
        while self._order and self._order[0][0] <= now:
            due, path = heapq.heappop(self._order)
            known = self._waiting.get(path)
            if known is not None and known[1] == due:
                del self._waiting[path]
                ready.append((path, known[0]))
        return ready

    def next_due(self) -> float | None:
        """When the next file may be taken."""
        return self._order[0][0] if self._order else None

    def __contains__(self, path: bytes) -> bool:
        return path in self._waiting

    def __len__(self) -> int:
        return len(self._waiting)

    def paths(self) -> list[bytes]:
        """The files that are waited for."""
        return list(self._waiting)

    def _wait(self, path: bytes, mark: int, due: float) -> None:
        self._waiting[path] = (mark, due)
        heapq.heappush(self._order, (due, path))
