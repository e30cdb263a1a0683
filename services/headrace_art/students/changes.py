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
LINE_BYTES = 6
MOST_BEFORE = 4
_MARK_END = HASH_BYTES + MARK_BYTES
_ORDER_END = _MARK_END + ORDER_BYTES
_FIXED = _ORDER_END + LINE_BYTES


class Known(NamedTuple):
    """What is remembered of a student.

    `hash` is of the last confirmed row, `mark` begins the id of its file, `order` is the offset at which it stood, and
    `line` its line; `before` are hashes of other rows that were confirmed before it from the same file.
    """

    hash: bytes
    mark: bytes
    order: int
    line: int
    before: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, raw: bytes | None) -> Known | None:
        """From the state's value; None if nothing is known, or it cannot be read."""
        if raw is None or len(raw) < _FIXED or (len(raw) - _FIXED) % HASH_BYTES:
            return None
        before = tuple(raw[place : place + HASH_BYTES] for place in range(_FIXED, len(raw), HASH_BYTES))
        order, line = raw[_MARK_END:_ORDER_END], raw[_ORDER_END:_FIXED]
        mark = raw[HASH_BYTES:_MARK_END]
        return cls(raw[:HASH_BYTES], mark, int.from_bytes(order, "big"), int.from_bytes(line, "big"), before)

    @property
    def raw(self) -> bytes:
        """The state's value."""
        return first_known(self.hash, self.mark, self.order, self.line) + b"".join(self.before)


def first_known(digest: bytes, mark: bytes, order: int, line: int) -> bytes:
    """The state's value of a row that nothing was known before of; see `Known`."""
    return digest + mark + (order << 8 * LINE_BYTES | line).to_bytes(ORDER_BYTES + LINE_BYTES, "big")


def unchanged(raw: bytes | None, digest: bytes, mark: bytes) -> bool:
    """Whether the row is the last confirmed one, of an earlier file: most are, so the value is not taken apart."""
    return raw is not None and len(raw) >= _FIXED and raw.startswith(digest) and raw[HASH_BYTES:_MARK_END] != mark


class Verdict(Enum):
    """What is to be done with a row."""

    SEND = "send"
    UNCHANGED = "unchanged"
    DELIVERED = "delivered"
    """It was confirmed from this very file, by a process that died before it said so."""
    SUPERSEDED = "superseded"
    """A later row of this very file was confirmed already."""
    WAIT = "wait"
    """Last time another row of the file followed and replaced it: see whether one does now."""


def verdict(known: Known | None, digest: bytes, mark: bytes, line: int) -> Verdict:
    """What to do with a row.

    Parameters:
        digest: of the row; mark: of its file; line: where it stands there.
    """
    if known is None:
        return Verdict.SEND
    if mark != known.mark:
        if digest == known.hash:
            return Verdict.UNCHANGED
        return Verdict.WAIT if digest in known.before else Verdict.SEND
    if digest == known.hash:
        return Verdict.DELIVERED
    if line >= known.line:
        # It comes later in the file than what ART has, so it counts, even if ART had the same before.
        return Verdict.SEND
    return Verdict.DELIVERED if digest in known.before else Verdict.SUPERSEDED


def confirmed(
    known: Known | None, digest: bytes, mark: bytes, order: int, line: int, replaced: tuple[bytes, ...] = ()
) -> Known:
    """What is to be remembered once ART has saved a row.

    Parameters:
        known: what was remembered before.
        replaced: rows of the same file that it replaced without their being sent.
    """
    before = replaced
    if known is not None and known.mark == mark:
        before = (known.hash, *known.before, *replaced)
    if before:
        before = tuple(dict.fromkeys(each for each in before if each != digest))[:MOST_BEFORE]
    return Known(digest, mark, order, line, before)
