"""One version of a file of a dataset, while its frames arrive and until its receipt."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, BinaryIO, cast

from headrace.chunks.frames import DEFAULT_ALGORITHM, Close, Data, Open, Whole, new_hash
from headrace.chunks.ranges import Ranges
from headrace.datasets.catalogue import Dataset
from headrace.datasets.selection import Selection
from headrace.stage.arrivals import Arrival
from headrace.stage.contract import Message
from headrace_files.csv_fanout.spool import LargerThanSpool, Spool

if TYPE_CHECKING:
    from hashlib import _Hash

READ_BYTES = 1024 * 1024


class Arriving(Arrival):
    """A file that is spooled, then published.

    Raises SpoolBehind, SpoolUnwell, LargerThanSpool or UnusableSelection.
    """

    def __init__(
        self, first: Message, frame: Open | Whole, file: bytes, dataset: Dataset, spool: Spool, *, anyway: bool
    ) -> None:
        super().__init__(first, frame, file)
        self.selection = Selection.of(frame.meta)
        self.dataset = self.selection.dataset(dataset)
        self._spool = spool
        self._ranges = Ranges()
        self._hash: _Hash = new_hash()
        self._hashed = 0
        self.rows = 0
        """Handed over to the log so far, good and bad; the worker counts."""
        self.rows_total: int | None = None
        """In the whole file, once it was read through."""
        self._content: BinaryIO | None = None
        self._reserved = len(frame.b) if isinstance(frame, Whole) else frame.size or 0
        spool.take(self._reserved, anyway=anyway)
        if isinstance(frame, Whole):
            self._content = cast("BinaryIO", io.BytesIO(frame.b))
            self._ranges.add(0, len(frame.b))
            self.close = Close(v=1, n=1, size=len(frame.b), alg=frame.alg, hash=frame.hash)
            return
        try:
            self._content = spool.open()
        except OSError as error:
            spool.give(self._reserved)
            raise spool.failure(error) from error

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return self._ranges.size

    @property
    def content(self) -> BinaryIO:
        """The bytes, as far as they are here."""
        if self._content is None:
            raise ValueError("a file that was forgotten has no content")
        return self._content

    @property
    def complete(self) -> bool:
        """Whether exactly the bytes are here that the close frame counts."""
        return self.close is not None and self.close.size is not None and self._ranges.whole(self.close.size)

    @property
    def too_much(self) -> bool:
        """Whether more bytes are here than the close frame counts."""
        return self.close is not None and self._ranges.size > (self.close.size or 0)

    def add(self, frame: Data) -> None:
        """Put the frame's bytes in their place; what is here already is not written again.

        (It may be part of the hash by now, so other bytes in its place would be published unseen.)

        Raises SpoolUnwell, LargerThanSpool.
        """
        end = frame.off + len(frame.b)
        if end > self._spool.limit:
            raise LargerThanSpool(limit=self._spool.limit)
        handle = self.content.fileno()
        try:
            for start, stop in self._ranges.missing(frame.off, end):
                while start < stop:
                    start += os.pwrite(handle, frame.b[start - frame.off : stop - frame.off], start)
        except OSError as error:
            raise self._spool.failure(error) from error
        if self._ranges.add(frame.off, end) == len(frame.b) and frame.off == self._hashed:
            self._hash.update(frame.b)
            self._hashed = end
        if self._ranges.size > self._reserved:
            # Its sender did not know how long it would become.
            self._spool.take(self._ranges.size - self._reserved, anyway=True)
            self._reserved = self._ranges.size

    @property
    def figures(self) -> dict[str, int]:
        """How far it is. Source: `headrace.jobs.progress`."""
        found = {"bytes": self.size, "rows": self.rows}
        if self.frame.size is not None:
            found["bytes_total"] = self.frame.size
        if self.rows_total is not None:
            found["rows_total"] = self.rows_total
        return found

    def digest(self) -> bytes:
        """The hash over the whole file by the close frame's algorithm."""
        close = self.close
        if close is None or close.alg is None or close.size is None:
            raise ValueError("a file without its close frame has no hash yet")
        if close.alg == DEFAULT_ALGORITHM and self._hashed == close.size and isinstance(self.frame, Open):
            return self._hash.digest()
        running = new_hash(close.alg)
        self.content.seek(0)
        while block := self.content.read(READ_BYTES):
            running.update(block)
        return running.digest()

    def forget(self) -> None:
        """Give its place in the spool back; a second time does nothing."""
        if self._content is not None:
            self._content.close()
            self._content = None
            self._spool.give(self._reserved)
