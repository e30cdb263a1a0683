"""Which bytes of a file are here: a set of ranges, since frames come twice, late and out of order."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Ranges:
    """Half-open byte ranges, kept merged. Frames that come in order cost constant time."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.size = 0

    def add(self, start: int, end: int) -> int:
        """Take in bytes `start` to `end`; how many of them are new."""
        if start >= end:
            return 0
        if self._ends and start == self._ends[-1]:
            self._ends[-1] = end
            self.size += end - start
            return end - start
        left = bisect_left(self._ends, start)
        right = bisect_right(self._starts, end)
        known = sum(
            min(end, self._ends[index]) - max(start, self._starts[index])
            for index in range(left, right)
            if min(end, self._ends[index]) > max(start, self._starts[index])
        )
        if left < right:
            low, high = min(start, self._starts[left]), max(end, self._ends[right - 1])
        else:
            low, high = start, end
        self._starts[left:right] = [low]
        self._ends[left:right] = [high]
        new = end - start - known
        self.size += new
        return new

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of bytes `start` to `end` that are not here, in order."""
        if not self._ends or start >= self._ends[-1]:
            return [(start, end)] if start < end else []
        found = []
        for index in range(bisect_right(self._ends, start), len(self._starts)):
            if self._starts[index] >= end:
                break
            if start < self._starts[index]:
                found.append((start, self._starts[index]))
            start = self._ends[index]
        if start < end:
            found.append((start, end))
        return found

    def contiguous(self) -> int:
        """Bytes from the beginning without a gap."""
        return self._ends[0] if self._starts and self._starts[0] == 0 else 0

    def whole(self, size: int) -> bool:
        """Whether exactly the bytes of a file of `size` are here, and none beyond."""
        return self.size == size and (size == 0 or (len(self._starts) == 1 and self._starts[0] == 0))
