"""One version of a file while its frames arrive: order, hashes, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from headrace.chunks.frames import DEFAULT_ALGORITHM, Open, Whole, new_hash
from headrace.stage.arrivals import Arrival
from headrace.stage.contract import Message
from headrace_files.archiver.buffers import Budget, PartBuffer
from headrace_files.archiver.cursor import Cursor
from headrace_files.archiver.spool import Spool
from headrace_files.archiver.uploads import Upload

PARTS_OF_ONE_SIZE = 1000
LARGEST_GAP = 256 * 1024 * 1024
"""Bytes that may come ahead of a missing one; a sender's window is 64 MiB. Source: design section 3."""

if TYPE_CHECKING:
    from hashlib import _Hash

State = Literal["open", "complete", "mismatch"]


class Arriving(Arrival):
    """A file that becomes an object.

    Once it is `settling`, nothing more is expected of the log.

    Parameters:
        algorithms: hashes to compute as the bytes come.
    """

    def __init__(
        self,
        first: Message,
        frame: Open | Whole,
        file: bytes,
        upload: Upload,
        budget: Budget,
        algorithms: Sequence[str] = (DEFAULT_ALGORITHM,),
    ) -> None:
        super().__init__(first, frame, file)
        self.upload = upload
        self.settling = False
        self.buffer = PartBuffer(budget)
        self.cursor = Cursor()
        self._budget = budget
        self._hashes: dict[str, _Hash] = {name: new_hash(name) for name in algorithms}

    def add(self, offset: int, piece: memoryview) -> None:
        """Take bytes that begin at `offset`, in whatever order they come."""
        before = self.cursor.ahead_in_memory
        for fresh in self.cursor.add(offset, piece):
            for digest in self._hashes.values():
                digest.update(fresh)
            self.buffer.add(fresh)
        self._budget.waiting += self.cursor.ahead_in_memory - before

    def state(self) -> State:
        """Whether all bytes that the close frame names are here, or more than those."""
        size = None if self.close is None else self.close.size
        if size is None:
            return "open"
        if self.cursor.furthest > size:
            return "mismatch"
        return "complete" if self.cursor.next == size else "open"

    def digest(self, algorithm: str) -> bytes | None:
        """The hash of all bytes so far, None if it was not computed and the bytes are no longer here."""
        found = self._hashes.get(algorithm)
        if found is None and not self.upload.parts:
            found = new_hash(algorithm)
            for piece in self.buffer.pieces():
                found.update(piece)
        return None if found is None else found.digest()

    @property
    def sha256(self) -> bytes:
        """The SHA-256 of all bytes so far."""
        return self._hashes[DEFAULT_ALGORITHM].digest()

    def part_size(self, smallest: int) -> int:
        """Bytes of the next part: they grow, so that 10,000 of them hold any file."""
        return int(smallest * 2 ** (self.upload.parts // PARTS_OF_ONE_SIZE))

    @property
    def in_memory(self) -> int:
        """Bytes that wait in memory."""
        return self.buffer.in_memory + self.cursor.ahead_in_memory

    def spill(self, spool: Spool) -> None:
        """Move what waits in memory to `spool`."""
        self.buffer.spill(spool)
        self._budget.waiting -= self.cursor.spill(spool)

    def drop(self) -> None:
        """Let go of everything that waits."""
        self.buffer.drop()
        self._budget.waiting -= self.cursor.ahead_in_memory
        self.cursor.forget()
