"""One partition's keyed state on this machine: a RocksDB that remembers which part of the topic it contains.

Data and the offset up to which they reach are written in one batch, so a crash leaves a store that is true for its
offset, and the rest is read from the topic. Source: design section 4, "State".
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import msgspec
from rocksdict import BlockBasedOptions, Cache, Options, Rdict, WriteBatch

MEBIBYTE = 1024 * 1024
WRITE_BUFFER = 8 * MEBIBYTE
BLOCK_CACHE = 16 * MEBIBYTE
# No key of ours begins with a NUL: keys are ASCII text (headrace.keys).
_MARK = b"\0checkpoint"


class Checkpoint(NamedTuple):
    """What a store contains: all of topic `topic_id` before `offset`, as of `written` seconds since the epoch."""

    topic_id: str
    offset: int
    written: float


class Store:
    """Bytes by key, in a folder of its own; one process at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._database = self._open()

    def checkpoint(self) -> Checkpoint | None:
        """What the store contains, None if it is new."""
        raw = self._database.get(_MARK)
        return None if raw is None else msgspec.msgpack.decode(raw, type=Checkpoint)

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of `keys`, in their order; None where there is none."""
        return cast("list[bytes | None]", self._database[list(keys)] if keys else [])

    def write(self, changes: Iterable[tuple[bytes, bytes | None]], topic_id: str, offset: int) -> None:
        """Apply changes (None removes), and remember that the store now reaches to before `offset`."""
        batch = WriteBatch(raw_mode=True)
        for key, value in changes:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(_MARK, msgspec.msgpack.encode(Checkpoint(topic_id, offset, time.time())))
        self._database.write(batch)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Everything in the store, ordered by key."""
        for key, value in self._database.items():
            if key != _MARK:
                yield cast("bytes", key), cast("bytes", value)

    def clear(self) -> None:
        """Begin anew."""
        self._database.close()
        shutil.rmtree(self._folder)
        self._database = self._open()

    def close(self) -> None:
        """Give the folder free."""
        self._database.close()

    def _open(self) -> Rdict:
        self._folder.mkdir(parents=True, exist_ok=True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(WRITE_BUFFER)
        options.set_max_write_buffer_number(2)
        # The topic is the log; what a power failure takes from here is read again from there.
        options.set_keep_log_file_num(2)
        blocks = BlockBasedOptions()
        blocks.set_block_cache(Cache(BLOCK_CACHE))
        blocks.set_bloom_filter(10, False)
        options.set_block_based_table_factory(blocks)
        return Rdict(str(self._folder), options)
