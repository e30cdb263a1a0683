"""Keys and ids: how a message finds its partition, and what a file is called on the log.

A key is a tuple of parts, joined by "/" on the wire, each percent-encoded where needed. The partition is murmur2 of
the first part alone, so everything that belongs to one path stays together. Source: design section 3.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from headrace.errors import PoisonError

Key = tuple[str, ...]

MAXIMUM_KEY_BYTES = 1024

_BLOCKS = struct.Struct("<I").iter_unpack
_AS_IT_IS = re.compile(r"[A-Za-z0-9_.~-]+").fullmatch


class MalformedKey(PoisonError):
    """The message key is not made of percent-encoded ASCII parts: {problem}."""

    code = "malformed-key"


def encode_key(parts: Key) -> bytes:
    """The key on the wire: percent-encoded parts joined by "/"."""
    if len(parts) == 1 and _AS_IT_IS(parts[0]):
        return parts[0].encode("ascii")
    return "/".join([part if _AS_IT_IS(part) else quote(part, safe="") for part in parts]).encode("ascii")


def decode_key(raw: bytes | None) -> Key:
    """The parts of a key from the wire.

    Raises MalformedKey if there is no key, it is too long, or a part is not percent-encoded UTF-8.
    """
    if not raw:
        raise MalformedKey(problem="it is empty")
    if len(raw) > MAXIMUM_KEY_BYTES:
        raise MalformedKey(problem=f"it has {len(raw)} bytes, more than {MAXIMUM_KEY_BYTES}")
    try:
        text = raw.decode("ascii")
        if "%" not in text:
            return tuple(text.split("/"))
        return tuple(unquote_to_bytes(part).decode("utf-8") for part in text.split("/"))
    except UnicodeDecodeError as error:
        raise MalformedKey(problem="it is not ASCII, or a part is not UTF-8") from error


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2 as an unsigned number (seed 0x9747b28c), as the Java and librdkafka clients compute it."""
    length = len(data)
    value = 0x9747B28C ^ length
    whole = length & ~3
    for (block,) in _BLOCKS(data[:whole]):
        block = block * 0x5BD1E995 & 0xFFFFFFFF
        value = (value * 0x5BD1E995 ^ (block ^ block >> 24) * 0x5BD1E995) & 0xFFFFFFFF
    if whole < length:
        value = (value ^ int.from_bytes(data[whole:], "little")) * 0x5BD1E995 & 0xFFFFFFFF
    value = (value ^ value >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return value ^ value >> 15


@lru_cache(maxsize=65536)
def partition_of(first_part: str, partitions: int) -> int:
    """Partition number of a key whose first part is `first_part`, among `partitions`."""
    return (murmur2(encode_key((first_part,))) & 0x7FFFFFFF) % partitions


def content_id(source: str, path: bytes, *marks: bytes) -> bytes:
    """16 bytes that stand for one version of a file whose sender tells of its content, and nothing of its disk.

    Parameters:
        marks: what tells versions apart, such as a hash.
    """
    return _digest((source.encode(), path, *marks))


def _digest(fields: Iterable[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for field in fields:
        digest.update(len(field).to_bytes(8, "big"))
        digest.update(field)
    return digest.digest()


def path_id(source: str, path: bytes) -> bytes:
    """16 bytes that stand for a path of a source, whatever its content. Source: design section 3."""
    return _digest((source.encode(), path))


def file_id(
    source: str, path: bytes, inode: int, size: int, mtime_ns: int, attempt: int, topic: str | None = None
) -> bytes:
    """16 bytes that stand for one version of a file: the same file seen again has the same id.

    Receipts name a partition and no topic, so a version whose frames are in another topic has another id.

    Parameters:
        inode: of the file system the source reads, 0 where there is none.
        size: bytes.
        mtime_ns: nanoseconds since the epoch.
        attempt: from 0; a version that is offered again after a failure counts up.
        topic: of its frames, without the prefix; None: `chunks`.
    """
    numbers = (number.to_bytes(16, "big", signed=True) for number in (inode, size, mtime_ns, attempt))
    return _digest((source.encode(), path, *numbers, *(() if topic is None else (topic.encode(),))))
