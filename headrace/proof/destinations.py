"""Reading destinations again, to see whether what a receipt names is still there, byte for byte.

A receipt's `where` is `file:///path` with percent-encoded bytes, `s3://bucket/key`, or `kafka://topic?source=...`, of
which `records` knows more. Nothing is changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple
from urllib.parse import unquote_to_bytes

from headrace.chunks.frames import ALGORITHMS, new_hash
from headrace.errors import HeadraceError, TransientError
from headrace.proof.evidence import Received

Finding = Literal["intact", "replaced", "differs", "gone", "expired", "unreadable"]

READ_BYTES = 1024 * 1024
PARTIAL_FOLDER = b".headrace"

Read = Callable[[str], Iterator[bytes]]
"""Yields what lies at a URL, piece by piece. Raises FileNotFoundError if it is gone, Unreadable if that is unknown."""

Look = Callable[[bytes, Received], "Check | None"]
"""What lies at the place that a receipt names, by the id of its file and the receipt; None if nobody can look."""
RECORDS_SCHEME = "kafka"


class Unreadable(TransientError):
    """The destination {where} cannot be read from here: {problem}."""

    code = "unreadable"


class Check(NamedTuple):
    """What was found at a destination, and why if it is not intact.

    `replaced`: by a newer version, rightly; `expired`: deleted by the rule of its topic, rightly, too.
    """

    finding: Finding
    reason: str | None = None

    @property
    def bad(self) -> bool:
        """Whether the destination has lost or changed what it confirmed."""
        return self.finding in ("differs", "gone")


def read_file(where: str) -> Iterator[bytes]:
    """The bytes of a `file:` URL.

    Raises FileNotFoundError if the tree is on this machine but the file is not, Unreadable if the tree is elsewhere or
    the file may not be read.
    """
    path = unquote_to_bytes(where.removeprefix("file://"))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        if _tree_is_here(path):
            raise FileNotFoundError(where) from error
        raise Unreadable(where=where, problem="this machine has no such tree") from error
    except OSError as error:
        raise Unreadable(where=where, problem=error.strerror) from error
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        try:
            while piece := file.read(READ_BYTES):
                yield piece
        except OSError as error:
            raise Unreadable(where=where, problem=error.strerror) from error


def is_absent(where: str, home: bytes) -> bool:
    """Whether a `file:` URL below the folder `home` of this machine names nothing that is there."""
    if not where.startswith("file://"):
        return False
    path = unquote_to_bytes(where.removeprefix("file://"))
    return path.startswith(home.rstrip(b"/") + b"/") and not os.path.lexists(path)


def _tree_is_here(path: bytes) -> bool:
    """Whether a folder above `path` is the root of a tree: it has our folder for files in the making."""
    folder = os.path.dirname(path)  # noqa: PTH120 - names are bytes
    while folder not in (b"", b"/"):
        if os.path.isdir(os.path.join(folder, PARTIAL_FOLDER)):  # noqa: PTH112, PTH118
            return True
        folder = os.path.dirname(folder)  # noqa: PTH120
    return False


def check(received: Received, readers: Mapping[str, Read]) -> Check:
    """Read what a delivered receipt names and compare size and hash.

    Parameters:
        readers: how to read, by URL scheme.
    """
    if received.where is None:
        return Check("unreadable", "the receipt names no place")
    read = readers.get(received.where.partition(":")[0])
    if read is None:
        return Check("unreadable", "nothing here can read such a place")
    if received.hash is None or received.alg not in ALGORITHMS:
        return Check("unreadable", "the receipt has no hash to compare with")
    digest = new_hash(received.alg)
    size = 0
    try:
        for piece in read(received.where):
            digest.update(piece)
            size += len(piece)
    except FileNotFoundError:
        return Check("gone")
    except HeadraceError as error:
        return Check("unreadable", str(error.details.get("problem", error)))
    if received.size is not None and size != received.size:
        return Check("differs", f"{size} bytes instead of {received.size}")
    return Check("intact") if digest.digest() == received.hash else Check("differs", "another hash")


def looking(at_place: Callable[[Received], Check | None], at_records: Look) -> Look:
    """Looks at topics for records, and at all other places as told."""

    def look(file: bytes, received: Received) -> Check | None:
        on_topic = (received.where or "").startswith(f"{RECORDS_SCHEME}:")
        return at_records(file, received) if on_topic else at_place(received)

    return look
