"""Bytes between the log and the bucket, and the cap on how many of them are held in memory.

Half of the cap is for parts that are not full yet: beyond it, the largest of them move to the spool. So a full memory
always means that more than half of it is under way, and drains as the store takes it; no number of files that grow side
by side can come to a standstill.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence

from headrace.errors import TransientError
from headrace_files.archiver.spool import Spool, Spooled

MOST_UNDER_WAY = 4096
READER_BUFFER = 256 * 1024

Piece = bytes | memoryview | Spooled


class BufferFull(TransientError):
    """The memory for {what} is full: {problem}; trying again in {retry_after} s."""

    code = "buffer-full"
    default_retry_after = 0.05
    steady = True


class Budget:
    """Counts bytes in memory: `waiting` in parts that are not full, and those under way to the store; `peak` of both.

    Parameters:
        limit: bytes for both.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.waiting = 0
        self.peak = 0
        self._lock = threading.Lock()
        self._under_way = 0
        self._requests = 0

    @property
    def used(self) -> int:
        """Bytes in memory."""
        return self.waiting + self._under_way

    @property
    def to_spill(self) -> int:
        """How many waiting bytes have no room in memory."""
        return max(0, self.waiting - self.limit // 2)

    def check(self) -> None:
        """See that there is room for more.

        Raises BufferFull if there is none before the store has taken something.
        """
        used = self.used
        self.peak = max(self.peak, used)
        if used >= self.limit or self._requests >= MOST_UNDER_WAY:
            raise BufferFull(what="parts under way", problem="the object store takes less than the log gives")

    def depart(self, size: int) -> None:
        """`size` bytes are under way."""
        with self._lock:
            self._under_way += size
            self._requests += 1

    def arrive(self, size: int) -> None:
        """They have arrived, or are dropped."""
        with self._lock:
            self._under_way -= size
            self._requests -= 1


class PartBody:
    """The bytes of one part or one small object, `in_memory` of them not spooled. Held until `release`."""

    def __init__(self, pieces: Sequence[Piece], in_memory: int, budget: Budget) -> None:
        self._pieces: list[Piece] = list(pieces)
        self._budget = budget
        self._lock = threading.Lock()
        self._released = False
        self._in_memory = in_memory
        budget.depart(in_memory)

    def contiguous(self) -> bytes:
        """All of it in one piece of memory."""
        if len(self._pieces) == 1 and isinstance(self._pieces[0], bytes):
            return self._pieces[0]
        joined = b"".join(piece.read() if isinstance(piece, Spooled) else piece for piece in self._pieces)
        self._free_spooled()
        # The single messages that the pieces belong to may go now.
        self._pieces = [joined]
        return joined

    def content(self) -> bytes | io.BufferedReader:
        """All of it, for a request's body: a reader where it is spooled."""
        if any(isinstance(piece, Spooled) for piece in self._pieces):
            return io.BufferedReader(_Reader(self._pieces), READER_BUFFER)
        return self.contiguous()

    def release(self) -> None:
        """The bytes are not needed any more; a second time does nothing."""
        with self._lock:
            if self._released:
                return
            self._released = True
        self._free_spooled()
        self._pieces = []
        self._budget.arrive(self._in_memory)

    def _free_spooled(self) -> None:
        for piece in self._pieces:
            if isinstance(piece, Spooled):
                piece.free()


class PartBuffer:
    """The bytes of a file that come after its last full part. The stage's thread only."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._pieces: list[memoryview | Spooled] = []
        self.size = 0
        self.in_memory = 0

    def add(self, piece: memoryview) -> None:
        """Append bytes."""
        self._pieces.append(piece)
        self.size += len(piece)
        self.in_memory += len(piece)
        self._budget.waiting += len(piece)

    def spill(self, spool: Spool) -> int:
        """Move what is in memory to `spool`; returns how many bytes that were.

        Raises SpoolFull if the disk does not take them; then nothing has changed.
        """
        views = [piece for piece in self._pieces if isinstance(piece, memoryview)]
        moved = self.in_memory
        if moved:
            # What is spooled always comes first, since all of the memory goes at once.
            spooled = spool.write(views)
            self._pieces = [*(piece for piece in self._pieces if isinstance(piece, Spooled)), spooled]
            self._stays(moved)
        return moved

    def pieces(self) -> Iterator[memoryview | bytes]:
        """The bytes, in order."""
        for piece in self._pieces:
            yield piece if isinstance(piece, memoryview) else piece.read()

    def cut(self) -> PartBody:
        """Everything so far, to be sent."""
        body = PartBody(self._pieces, self.in_memory, self._budget)
        self._stays(self.in_memory)
        self._pieces = []
        self.size = 0
        return body

    def drop(self) -> None:
        """Let go of everything."""
        if self._pieces:
            self.cut().release()

    def _stays(self, count: int) -> None:
        self._budget.waiting -= count
        self.in_memory -= count


class _Reader(io.RawIOBase):
    """Reads pieces one after the other, as a file that can be read again."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._starts: list[tuple[int, Piece]] = []
        start = 0
        for piece in pieces:
            self._starts.append((start, piece))
            start += _length(piece)
        self._size = start
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, into: memoryview) -> int:  # type: ignore[override]
        for start, piece in self._starts:
            within = self._position - start
            if 0 <= within < _length(piece):
                count = min(len(into), _length(piece) - within)
                into[:count] = (
                    piece.read(within, count) if isinstance(piece, Spooled) else piece[within : within + count]
                )
                self._position += count
                return count
        return 0


def _length(piece: Piece) -> int:
    return piece.size if isinstance(piece, Spooled) else len(piece)
