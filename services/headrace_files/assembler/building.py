"""Files that are being put together: which bytes are here, and the hash over them as far as they came in order."""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from typing import TYPE_CHECKING

from headrace.chunks.frames import DEFAULT_ALGORITHM, Data, Open, Whole, new_hash
from headrace.chunks.ranges import Ranges
from headrace.errors import PoisonError
from headrace.stage.arrivals import Arrival
from headrace.stage.contract import Message
from headrace_files.assembler.tree import Tree

if TYPE_CHECKING:
    from hashlib import _Hash

MOST_OPEN_FILES = 200
READ_BYTES = 1024 * 1024


class BeyondFile(PoisonError):
    """The frame has bytes for offset {offset}, where no file on this file system reaches."""

    code = "beyond-file"


class Building(Arrival):
    """A file that is put together on disk.

    `named` is set once it has its final name, so that a round that is tried again does not touch it.
    """

    def __init__(self, first: Message, frame: Open | Whole, name: tuple[bytes, ...], file: bytes) -> None:
        super().__init__(first, frame, file)
        self.name = name
        self.ranges = Ranges()
        self.named = False
        self.hash: _Hash = new_hash()
        self.hashed = 0

    @property
    def complete(self) -> bool:
        """Whether the close frame has come and exactly its bytes are here."""
        return self.close is not None and self.close.size is not None and self.ranges.whole(self.close.size)

    def digest(self, tree: Tree) -> bytes:
        """The hash over the whole file by the close frame's algorithm, read back where it was not computed on the way.

        Raises DiskUnwell.
        """
        close = self.close
        if close is None or close.alg is None or close.size is None:
            raise ValueError("a file without its close frame has no hash yet")
        if close.alg == DEFAULT_ALGORITHM and self.hashed == close.size:
            return self.hash.digest()
        in_order = close.alg == DEFAULT_ALGORITHM
        running = self.hash.copy() if in_order else new_hash(close.alg)
        handle = tree.open_finished(self.item, close.size)
        try:
            position = self.hashed if in_order else 0
            while block := os.pread(handle, READ_BYTES, position):
                running.update(block)
                position += len(block)
        except OSError as error:
            raise tree.failure(error) from error
        finally:
            os.close(handle)
        return running.digest()


class Partials:
    """Writes data frames into partial files, keeping a bounded number of them open."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._handles: OrderedDict[str, int] = OrderedDict()

    def write(self, building: Building, frame: Data) -> None:
        """Put the frame's bytes in their place; what is here already is not written again.

        (It may be part of the hash by now, so other bytes in its place would be delivered unseen.)

        Raises DiskUnwell; the same frame may then be given again. Raises BeyondFile.
        """
        end = frame.off + len(frame.b)
        missing = building.ranges.missing(frame.off, end)
        if not missing:
            return
        handle = self._handle(building.item)
        try:
            for start, stop in missing:
                while start < stop:
                    start += os.pwrite(handle, frame.b[start - frame.off : stop - frame.off], start)
        except OSError as error:
            if error.errno in (errno.EFBIG, errno.EINVAL):
                raise BeyondFile(offset=frame.off) from error
            raise self._tree.failure(error) from error
        if building.ranges.add(frame.off, end) == len(frame.b) and frame.off == building.hashed:
            building.hash.update(frame.b)
            building.hashed = end

    def forget(self, item: str) -> None:
        """Close the item's file; its content stays."""
        handle = self._handles.pop(item, None)
        if handle is not None:
            os.close(handle)

    def close(self) -> None:
        """Close everything."""
        for item in list(self._handles):
            self.forget(item)

    def _handle(self, item: str) -> int:
        known = self._handles.get(item)
        if known is not None:
            self._handles.move_to_end(item)
            return known
        handle = self._tree.open_partial(item)
        self._handles[item] = handle
        if len(self._handles) > MOST_OPEN_FILES:
            self.forget(next(iter(self._handles)))
        return handle
