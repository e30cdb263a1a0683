"""Whether a student has changed: what is remembered of the last confirmed row, and what follows for a new one. Pure.

A state may list a student twice in a file, with two contents: the last one counts. So that such a student is not sent
twice every night, what the last one replaced in the same file is remembered, too.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

HASH_BYTES = 16
MARK_BYTES = 8
ORDER_BYTES = 8
MOST_BEFORE = 4


class Known(NamedTuple):
    """What is remembered of a student.

    `hash` is of the last confirmed row, `mark` begins the id of its file, `order` is the offset at which it stood;
    `before` are hashes of other rows that were confirmed before it from the same file.
    """

    hash: bytes
    mark: bytes
    order: int
    before: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, raw: bytes | None) -> Known | None:
        """From the state's value; None if nothing is known, or it cannot be read."""
        start = HASH_BYTES + MARK_BYTES + ORDER_BYTES
        if raw is None or len(raw) < start or (len(raw) - start) % HASH_BYTES:
            return None
        before = tuple(raw[place : place + HASH_BYTES] for place in range(start, len(raw), HASH_BYTES))
        mark_end = HASH_BYTES + MARK_BYTES
        return cls(raw[:HASH_BYTES], raw[HASH_BYTES:mark_end], int.from_bytes(raw[mark_end:start], "big"), before)

    @property
    def raw(self) -> bytes:
        """The state's value."""
        return b"".join((self.hash, self.mark, self.order.to_bytes(ORDER_BYTES, "big"), *self.before))


class Verdict(Enum):
    """What is to be done with a row."""

    SEND = "send"
    UNCHANGED = "unchanged"
    DELIVERED = "delivered"
    """It was confirmed from this very file, by a process that died before it said so."""
    WAIT = "wait"
    """Last time another row of the file followed and replaced it: see whether one does now."""


def verdict(known: Known | None, digest: bytes, mark: bytes) -> Verdict:
    """What to do with a row.

    Parameters:
        digest: of the row; mark: of its file.
    """
    if known is None:
        return Verdict.SEND
    if digest == known.hash:
        return Verdict.DELIVERED if mark == known.mark else Verdict.UNCHANGED
    if digest in known.before:
        return Verdict.DELIVERED if mark == known.mark else Verdict.WAIT
    return Verdict.SEND


def confirmed(known: Known | None, digest: bytes, mark: bytes, order: int, replaced: tuple[bytes, ...] = ()) -> Known:
    """What is to be remembered once ART has saved a row.

    Parameters:
        known: what was remembered before.
        replaced: rows of the same file that it replaced without their being sent.
    """
    before = replaced
    if known is not None and known.mark == mark:
        before = (known.hash, *known.before, *replaced)
    distinct = tuple(dict.fromkeys(each for each in before if each != digest))
    return Known(digest, mark, order, distinct[:MOST_BEFORE])
