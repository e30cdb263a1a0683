"""The layout of their chunk messages: msgpack arrays of 7 to 10 elements, which changed nine times in six years.

Everything here is pure. Source: reference filestream 2.1 (today's layout), 2.7 (the earlier ones).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import cast

import msgspec

from headrace.errors import PoisonError

HASH_BYTES = 64  # SHA-512
LONGEST_PATH = 65535
MOST_CHUNKS = 2**31 - 1
LARGEST_OFFSET = 2**63 - 1
LATEST_MTIME = 253402300800.0  # the year 10000, in seconds since the epoch
ELEMENTS = 10

_TEXT, _BINARY, _NUMBER = "t", "b", "n"

# What an array with elements of these types holds, in order; "-" is of no interest. Length alone would be ambiguous.
_LAYOUTS: Mapping[str, Sequence[str]] = {
    types: fields.split()
    for types, fields in {
        "tbbnnnttbn": "name file_hash chunk_hash offset index total folder suffix data mtime",
        "tbbnnnttb": "name file_hash chunk_hash offset index total folder suffix data",
        "tbbnnntb": "name file_hash chunk_hash offset index total folder data",
        "tbbnnnb": "name file_hash chunk_hash offset index total data",
        "ttbbnnnb": "- name file_hash chunk_hash offset index total data",
        "tbbnbtnn": "- file_hash chunk_hash offset data name index total",
    }.items()
}
_WITHOUT_INDEX = frozenset({"tbbnb", "tbbnbt", "tbbnbtn"})


class NoChunkMessage(PoisonError):
    """The value is no chunk message of OpenMSIStream: {problem}."""

    code = "no-chunk-message"


class TooOldChunkMessage(PoisonError):
    """The chunk message has a layout of before 29 March 2021, in which chunks have no number; send it again."""

    code = "too-old-chunk-message"


class ChunkHashWrong(PoisonError):
    """The bytes of chunk {index} of {total} do not have the hash that its message states."""

    code = "chunk-hash-wrong"


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk: `index` counts from 1 to `total`; `path` is relative; `mtime` is seconds, None where it is unknown."""

    path: bytes
    file_hash: bytes
    offset: int
    index: int
    total: int
    data: bytes
    mtime: float | None = None

    @property
    def last(self) -> bool:
        """Whether the file ends with it."""
        return self.index == self.total

    @property
    def size(self) -> int:
        """The bytes of the file; only the last chunk tells."""
        return self.offset + len(self.data)

    @property
    def regular(self) -> int:
        """The bytes of every chunk but the last, as far as this one tells."""
        return self.offset // (self.index - 1) if self.last and self.index > 1 else len(self.data)


def decode(value: bytes) -> Chunk:
    """The chunk in the value of a message.

    Raises NoChunkMessage, TooOldChunkMessage, or ChunkHashWrong. Whether the path is safe is the receiver's question.
    """
    try:
        fields = msgspec.msgpack.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NoChunkMessage(problem="it is no msgpack") from error
    if not isinstance(fields, list):
        raise NoChunkMessage(problem="it is no array")
    types = "".join(_type_of(field) for field in fields[: ELEMENTS + 1])
    if types in _WITHOUT_INDEX:
        raise TooOldChunkMessage
    layout = _LAYOUTS.get(types)
    if layout is None:
        raise NoChunkMessage(problem=f"an array of {len(fields)} elements of these types is not known")
    return _checked(dict(zip(layout, fields, strict=True)))


def encode(chunk: Chunk, *, elements: int = ELEMENTS) -> bytes:
    """The value of a message in today's layout.

    Parameters:
        elements: 10, or 9 for receivers of before April 2026, which know no mtime.
    """
    folder, _, name = chunk.path.decode().rpartition("/")
    fields: list[object] = [
        name,
        chunk.file_hash,
        hashlib.sha512(chunk.data).digest(),
        chunk.offset,
        chunk.index,
        chunk.total,
        folder,
        "",
        chunk.data,
    ]
    if elements == ELEMENTS:
        fields.append(chunk.mtime or 0.0)
    return msgspec.msgpack.encode(fields)


def encode_key(chunk: Chunk) -> bytes:
    """The key of a message: folders, name and number, joined by "_"; a file without a folder begins with one."""
    folder, _, name = chunk.path.decode().rpartition("/")
    return f"{folder.replace('/', '_')}_{name}_chunk_{chunk.index}_of_{chunk.total}".encode()


def _type_of(field: object) -> str:
    if isinstance(field, str):
        return _TEXT
    if isinstance(field, bytes):
        return _BINARY
    if isinstance(field, int | float) and not isinstance(field, bool):
        return _NUMBER
    return "?"


def _checked(found: Mapping[str, object]) -> Chunk:
    offset, index, total = (found[name] for name in ("offset", "index", "total"))
    if not (isinstance(offset, int) and isinstance(index, int) and isinstance(total, int)):
        raise NoChunkMessage(problem="offset, index or total is no whole number")
    if not (1 <= index <= total <= MOST_CHUNKS and 0 <= offset <= LARGEST_OFFSET):
        raise NoChunkMessage(problem="offset, index or total is out of range")
    if (index == 1) != (offset == 0):
        # Where only ranges of a file were selected, too: they are written from the beginning.
        raise NoChunkMessage(problem="the first chunk, and no other, is written at offset 0")
    file_hash, chunk_hash, data = (cast("bytes", found[name]) for name in ("file_hash", "chunk_hash", "data"))
    if len(file_hash) != HASH_BYTES or len(chunk_hash) != HASH_BYTES:
        raise NoChunkMessage(problem=f"a hash has not {HASH_BYTES} bytes")
    if not data:
        raise NoChunkMessage(problem="it carries no bytes")
    if hashlib.sha512(data).digest() != chunk_hash:
        raise ChunkHashWrong(index=index, total=total)
    name, folder = str(found["name"]), str(found.get("folder", ""))
    if "folder" not in found:
        # The layouts without a subfolder held the path on the sender's disk, of which only the name counted.
        name = name.replace("\\", "/").rpartition("/")[2]
    path = _path(name, folder, str(found.get("suffix", "")))
    if not 1 <= len(path) <= LONGEST_PATH or not name:
        raise NoChunkMessage(problem="its file has no name, or too long a one")
    return Chunk(path, file_hash, offset, index, total, data, _mtime(found.get("mtime")))


def _path(name: str, folder: str, suffix: str) -> bytes:
    if suffix:
        pure = PurePosixPath(name)
        name = f"{pure.stem}{suffix}{pure.suffix}"
    return (f"{folder}/{name}" if folder else name).encode()


def _mtime(value: object) -> float | None:
    """Seconds since the epoch; 0 says that it is unknown."""
    if not isinstance(value, int | float) or not math.isfinite(value) or not 0 < value < LATEST_MTIME:
        return None
    return float(value)


def chunks_of(size: int, chunk: int) -> Sequence[tuple[int, int]]:
    """Offset and length of each chunk of a file of `size` bytes."""
    return [(offset, min(chunk, size - offset)) for offset in range(0, size, chunk)]
