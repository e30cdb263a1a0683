"""Frames: the msgpack maps on `headrace.chunks`.

*open* announces a file, *data* carries a piece of it, *close* proves it (count, size, hash) or aborts it; *whole* is
all three in one message. Unknown fields are ignored, missing or mistyped ones are poison. Source: design section 9.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from headrace.errors import ConfigError, PoisonError

if TYPE_CHECKING:
    from hashlib import _Hash

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Path = Annotated[bytes, msgspec.Meta(min_length=1, max_length=65535)]
Bytes = bytes | bytearray | memoryview

DEFAULT_ALGORITHM = "sha256"
ALGORITHMS = frozenset({"sha256", "sha512", "blake2b"})
SMALLEST_CHUNK = 4 * 1024
DEFAULT_CHUNK = 256 * 1024
# A frame is its bytes and this much at the most around them: field names, numbers, and a path of 4 KiB twice over.
FRAME_OVERHEAD = 12 * 1024


class MalformedFrame(PoisonError):
    """The value is not a chunk frame: {problem}."""

    code = "malformed-frame"


class WrongChunkSize(ConfigError):
    """The chunk size {size} cannot be used: {problem}. Choose a power of two from 4096 to {largest}."""

    code = "wrong-chunk-size"


class Open(msgspec.Struct, frozen=True, kw_only=True, tag_field="k", tag="open"):
    """A file begins: who sends it, under which name, and what is known before reading it.

    `path` is relative to the source's root, in the bytes of its file system; sizes are bytes, times nanoseconds since
    the epoch; `chunk` is the size of every data frame but the last.
    """

    v: Literal[1]
    source: str
    path: Path
    chunk: Count
    mtime_ns: int
    attempt: Count
    size: Count | None = None
    ctime_ns: int | None = None
    mode: Count | None = None
    type: str | None = None
    dataset: str | None = None
    job: str | None = None
    meta: dict[str, str] = {}


class Data(msgspec.Struct, frozen=True, tag_field="k", tag="data"):
    """Bytes `b` of a file at offset `off`; `i` counts the frames from 0. `b` is a view into the message."""

    v: Literal[1]
    i: Count
    off: Count
    b: memoryview


class Close(msgspec.Struct, frozen=True, kw_only=True, tag_field="k", tag="close"):
    """A file ends: `n` frames, `size` bytes, and the hash over all of them; or `abort`, the reason why it does not."""

    v: Literal[1]
    n: Count | None = None
    size: Count | None = None
    alg: str | None = None
    hash: bytes | None = None
    abort: str | None = None


class Whole(msgspec.Struct, frozen=True, kw_only=True, tag_field="k", tag="whole"):
    """A file that fits one chunk, in one message; an empty file has empty `b`."""

    v: Literal[1]
    source: str
    path: Path
    chunk: Count
    mtime_ns: int
    attempt: Count
    size: Count | None = None
    ctime_ns: int | None = None
    mode: Count | None = None
    type: str | None = None
    dataset: str | None = None
    job: str | None = None
    meta: dict[str, str] = {}
    alg: str
    hash: bytes
    b: memoryview


Frame = Open | Data | Close | Whole

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)


def encode(frame: Frame) -> bytes:
    """The frame as a msgpack map."""
    # msgspec leaves no field out here: `v` and nil values are written, so that any msgpack reader sees the whole list.
    return _encoder.encode(frame)


def decode(raw: Bytes) -> Frame:
    """The frame in a message value.

    Raises MalformedFrame if it is not a msgpack map of one of the four kinds, a field is missing or has the wrong
    type, a close frame proves nothing, or the hash is one we cannot compute.
    """
    try:
        frame = _decoder.decode(raw)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedFrame(problem=_shape_only(error)) from error
    if isinstance(frame, Close):
        if frame.abort is None and None in (frame.n, frame.size, frame.alg, frame.hash):
            raise MalformedFrame(problem="a close frame has neither n, size, alg and hash, nor abort")
        if frame.alg is not None and frame.alg not in ALGORITHMS:
            raise MalformedFrame(problem="unknown hash algorithm")
    elif isinstance(frame, Whole) and frame.alg not in ALGORITHMS:
        raise MalformedFrame(problem="unknown hash algorithm")
    return frame


def _shape_only(error: Exception) -> str:
    """What msgspec says of types and fields; never a value, since values may be personal."""
    text = str(error)
    if text.startswith("Invalid value"):
        return "unknown kind of frame"
    return text if isinstance(error, msgspec.DecodeError) and len(text) < 200 else type(error).__name__


def new_hash(algorithm: str = DEFAULT_ALGORITHM) -> _Hash:
    """A running hash by its protocol name; one of `ALGORITHMS`."""
    return hashlib.new(algorithm, usedforsecurity=False)


def check_chunk_size(size: int, max_message_bytes: int) -> int:
    """`size` bytes if data frames of that size can be sent.

    Raises WrongChunkSize if it is no power of two from 4 KiB up to what `max_message_bytes` of the topic allows.
    """
    largest = SMALLEST_CHUNK
    while largest * 2 + FRAME_OVERHEAD <= max_message_bytes:
        largest *= 2
    if size <= 0 or size & (size - 1):
        raise WrongChunkSize(size=size, problem="it is not a power of two", largest=largest)
    if not SMALLEST_CHUNK <= size <= largest:
        problem = "it is too small" if size < SMALLEST_CHUNK else f"the topic takes {max_message_bytes} bytes a message"
        raise WrongChunkSize(size=size, problem=problem, largest=largest)
    return size
