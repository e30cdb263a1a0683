"""Where a file stands: which of its bytes have come, and which of them go into the object next.

An object is written from front to back, so bytes that came ahead wait until the gap before them is filled; bytes that
came before are skipped. Source: design section 3, chunk protocol (frames may come twice or late).
"""

from __future__ import annotations

from headrace_files.archiver.spool import Spool, Spooled


class Cursor:
    """Puts the pieces of one file in order.

    `next` is the offset that the object continues with; `furthest` the end of the bytes seen so far; `ahead` how many
    bytes wait behind a gap, `ahead_in_memory` those of them that are not spooled.
    """

    def __init__(self) -> None:
        self.next = 0
        self.furthest = 0
        self.ahead = 0
        self.ahead_in_memory = 0
        self._waiting: dict[int, memoryview | Spooled] = {}

    def add(self, offset: int, piece: memoryview) -> list[memoryview]:
        """Take a piece that begins at `offset`; returns what can be appended now, in order."""
        end = offset + len(piece)
        self.furthest = max(self.furthest, end)
        if end <= self.next:
            return []
        if offset > self.next:
            self._wait(offset, piece)
            return []
        fresh = [piece[self.next - offset :]]
        self.next = end
        while self._waiting:
            # A sender that starts again may have cut the file otherwise, so any piece that reaches over `next` will do.
            following = self._waiting_at_next()
            if following is None:
                break
            fresh.append(following)
            self.next += len(following)
        return fresh

    def spill(self, spool: Spool) -> int:
        """Move what waits in memory to `spool`; returns how many bytes that were."""
        moved = 0
        for offset, piece in self._waiting.items():
            if isinstance(piece, memoryview):
                self._waiting[offset] = spool.write([piece])
                moved += len(piece)
                self.ahead_in_memory -= len(piece)
        return moved

    def forget(self) -> None:
        """Let go of everything that waits."""
        for offset in list(self._waiting):
            self._drop(offset)

    def _wait(self, offset: int, piece: memoryview) -> None:
        known = self._waiting.get(offset)
        if known is not None:
            if _length(known) >= len(piece):
                return
            self._drop(offset)
        self._waiting[offset] = piece
        self.ahead += len(piece)
        self.ahead_in_memory += len(piece)

    def _waiting_at_next(self) -> memoryview | None:
        if self.next in self._waiting:
            return self._take(self.next)
        for offset, piece in sorted(self._waiting.items(), key=lambda each: each[0]):
            if offset > self.next:
                return None
            if offset + _length(piece) > self.next:
                return self._take(offset)[self.next - offset :]
            self._drop(offset)
        return None

    def _take(self, offset: int) -> memoryview:
        piece = self._waiting[offset]
        taken = piece if isinstance(piece, memoryview) else memoryview(piece.read())
        self._drop(offset)
        return taken

    def _drop(self, offset: int) -> None:
        piece = self._waiting.pop(offset)
        self.ahead -= _length(piece)
        if isinstance(piece, memoryview):
            self.ahead_in_memory -= len(piece)
        else:
            piece.free()


def _length(piece: memoryview | Spooled) -> int:
    return len(piece) if isinstance(piece, memoryview) else piece.size
