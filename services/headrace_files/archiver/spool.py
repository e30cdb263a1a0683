"""A place on disk for bytes that memory has no room for: one file without a name, gone with the process.

An object store takes parts of at least 5 MiB. Many files that grow slowly side by side would each hold most of a part
in memory; what exceeds the cap waits here until its part is full. It is no copy of the files: it holds less than one
part of each open file, and bytes that came ahead of others.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from headrace.errors import TransientError

Bytes = bytes | bytearray | memoryview
SLOT = 64 * 1024


class SpoolFull(TransientError):
    """The disk for {what} at {where} is unwell: {problem}; trying again in {retry_after} s."""

    code = "spool-full"
    default_retry_after = 2.0


class Spooled:
    """Bytes that lie in a spool: `size` of them. They may be read by several threads, and freed once."""

    __slots__ = ("_slots", "_spool", "size")

    def __init__(self, spool: Spool, slots: list[int], size: int) -> None:
        self._spool = spool
        self._slots = slots
        self.size = size

    def read(self, start: int = 0, length: int | None = None) -> bytes:
        """The bytes from `start`, at most `length`."""
        end = self.size if length is None else min(self.size, start + length)
        pieces = []
        while start < end:
            index, within = divmod(start, SLOT)
            count = min(SLOT - within, end - start)
            pieces.append(self._spool.read(self._slots[index] * SLOT + within, count))
            start += count
        return b"".join(pieces)

    def free(self) -> None:
        """The bytes are not needed any more."""
        slots, self._slots = self._slots, []
        self._spool.free(slots)


class Spool:
    """An unnamed file in `folder`, cut into slots that are used again. The file is made at the first write."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir())
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._free: list[int] = []
        self._slots = 0

    @property
    def used(self) -> int:
        """Bytes on disk that hold something."""
        return (self._slots - len(self._free)) * SLOT

    def write(self, pieces: Sequence[Bytes]) -> Spooled:
        """Store `pieces`, one after the other.

        Raises SpoolFull if the disk does not take them.
        """
        data = memoryview(b"".join(pieces))
        with self._lock:
            count = -(-len(data) // SLOT)
            while len(self._free) < count:
                self._free.append(self._slots)
                self._slots += 1
            slots = [self._free.pop() for _ in range(count)]
        try:
            descriptor = self._open()
            for index, slot in enumerate(slots):
                self._write_all(descriptor, data[index * SLOT : (index + 1) * SLOT], slot * SLOT)
        except OSError as error:
            self.free(slots)
            raise SpoolFull(what="spooled parts", where=self._folder, problem=error.strerror) from error
        return Spooled(self, slots, len(data))

    def read(self, position: int, count: int) -> bytes:
        """`count` bytes of the file at `position`."""
        return os.pread(self._open(), count, position)

    def free(self, slots: Sequence[int]) -> None:
        """Give slots back; an empty spool gives its disk space back."""
        with self._lock:
            self._free.extend(slots)
            if self._file is not None and len(self._free) == self._slots:
                self._free.clear()
                self._slots = 0
                os.ftruncate(self._file.fileno(), 0)

    def close(self) -> None:
        """Give up the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _open(self) -> int:
        with self._lock:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - kept until close
            return self._file.fileno()

    @staticmethod
    def _write_all(descriptor: int, data: memoryview, position: int) -> None:
        while data:
            written = os.pwrite(descriptor, data, position)
            data = data[written:]
            position += written
