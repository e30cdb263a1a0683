"""Evidence: what sources and groups said of file versions, as sets.

Work that is done twice leaves its receipts twice, in any order, so nothing here counts what it is told: events and
receipts go into dictionaries by identity. Source: design section 1, rules 2 to 4.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import msgspec

from headrace.deadletters.decisions import Decision
from headrace.events import FileEvent, FileState, Outcome, UploadAck
from headrace.receipts import worst
from headrace.topics import CHUNKS

FILE_ID_BYTES = 16
DEAD_MESSAGE = "dead:"
"""Begins the item name of a receipt for one message that went to the dead letters, see `deadletter.unreadable_item`."""

# A delivered receipt of an item wins over every other, whenever it came (design section 1, rule 4).
_OUTCOME_RANK: Mapping[Outcome, int] = {"delivered": 2, "unchanged": 1, "dead_lettered": 0, "held": 0, "failed": 0}


class Sent(msgspec.Struct, frozen=True, gc=False):
    """What a source said last of one version of a file.

    `first` and `last` are the offsets of its frames in `partition` of `topic`, `offset` is the event's own in the files
    topic; `size` is bytes, `at` microseconds since the epoch, the other times nanoseconds.
    """

    path_id: bytes
    file: bytes
    source: str
    path: bytes
    state: FileState
    attempt: int
    inode: int | None
    mtime_ns: int
    ctime_ns: int | None
    size: int | None
    alg: str | None
    hash: bytes | None
    partition: int
    first: int | None
    last: int | None
    reason: str | None
    at: int
    offset: int
    topic: str = CHUNKS.name
    dataset: str | None = None


class Received(msgspec.Struct, frozen=True, gc=False):
    """What a group said of one version of a file. `where` is a URL, `etag` and `version` are the destination's own.

    `lines` are those that were delivered, as a serialized bitmap, where a file is delivered line by line.
    """

    outcome: Outcome
    code: str | None
    where: str | None
    alg: str | None
    hash: bytes | None
    size: int | None
    etag: str | None
    version: str | None
    ctime_ns: int | None
    first: int
    last: int
    at: int
    lines: bytes | None = None


class Evidence:
    """What the log says, as sets: take events and receipts in any order, any number of times."""

    def __init__(self) -> None:
        self.versions: dict[bytes, Sent] = {}
        self.receipts: dict[str, dict[bytes, Received]] = {}
        self.dead: dict[str, dict[bytes, set[str]]] = {}
        self.stray: dict[str, set[str]] = {}
        self.decisions: dict[tuple[str, str], Decision] = {}

    def take_event(self, event: FileEvent, offset: int) -> None:
        """Take a source's word; `offset` is the event's place in its partition of the files topic."""
        known = self.versions.get(event.file)
        if known is not None and (known.state != "sending", known.offset) >= (event.state != "sending", offset):
            return
        self.versions[event.file] = Sent(
            path_id=event.path_id,
            file=event.file,
            source=sys.intern(event.source),
            path=event.path,
            state=event.state,
            attempt=event.attempt,
            inode=event.inode,
            mtime_ns=event.mtime_ns,
            ctime_ns=event.ctime_ns,
            size=event.size,
            alg=sys.intern(event.alg) if event.alg else None,
            hash=event.hash,
            partition=event.partition,
            first=event.first,
            last=event.last,
            reason=event.reason,
            at=event.at,
            offset=offset,
            topic=CHUNKS.name if event.topic is None else sys.intern(event.topic),
            dataset=sys.intern(event.dataset) if event.dataset else None,
        )

    def take_receipt(self, ack: UploadAck) -> None:
        """Take a group's word. Receipts whose item is neither a file nor a dead message belong to other books."""
        if ack.item.startswith(DEAD_MESSAGE):
            if ack.file is None:
                self.stray.setdefault(ack.group, set()).add(ack.item)
            else:
                self.dead.setdefault(ack.group, {}).setdefault(ack.file, set()).add(ack.item)
            return
        file = _file_of_item(ack.item)
        if file is None or not ack.covers:
            return
        # Called for millions, nearly all of which have one part.
        found = ack.covers[0] if len(ack.covers) == 1 else worst(ack.covers)
        sent = self.versions.get(file)
        received = Received(
            outcome=found.outcome,
            code=sys.intern(found.code) if found.code else None,
            where=ack.where,
            alg=sys.intern(ack.alg) if ack.alg else None,
            # Nearly always the same bytes: one copy is enough.
            hash=sent.hash if sent is not None and sent.hash == ack.hash else ack.hash,
            size=ack.size,
            etag=ack.etag,
            version=ack.version,
            ctime_ns=ack.ctime_ns,
            first=ack.first,
            last=ack.last,
            at=ack.at,
            lines=None if found.lines is None else _delivered_lines(ack),
        )
        of_group = self.receipts.setdefault(sys.intern(ack.group), {})
        known = of_group.get(file)
        if known is None or _weight(known) < _weight(received):
            of_group[file] = received

    def withdraw(self, group: str, item: str) -> None:
        """A group's word was taken back: its receipt was followed by an empty message of the same key."""
        file = _file_of_item(item)
        if file is not None:
            self.receipts.get(group, {}).pop(file, None)

    def take_decision(self, decision: Decision) -> None:
        """Take what was decided on a dead letter; on each item the decision on its latest death counts."""
        about = (decision.group, decision.item)
        known = self.decisions.get(about)
        if known is None or (known.offset, known.at) < (decision.offset, decision.at):
            self.decisions[about] = decision

    def discarded(self, group: str, item: str, last: int) -> bool:
        """Whether the death of an item, at offset `last` of its topic, was the last word: it was discarded."""
        decision = self.decisions.get((group, item))
        return decision is not None and decision.verdict == "discarded" and decision.offset >= last

    def dead_messages(self, group: str, file: bytes) -> int:
        """How many messages of a file are dead and nothing was decided on."""
        of_group = self.dead.get(group)
        if not of_group:
            return 0
        return sum((group, item) not in self.decisions for item in of_group.get(file, ()))

    def stray_messages(self) -> int:
        """How many dead messages belong to no file and nothing was decided on."""
        return sum((group, item) not in self.decisions for group, items in self.stray.items() for item in items)

    def said(self, group: str, file: bytes) -> bool:
        """Whether a group said anything of a version."""
        return file in self.receipts.get(group, ()) or file in self.dead.get(group, ())

    def takes_others(self, group: str) -> bool:
        """Whether a group has handled a file that names no dataset, and not only passed it by."""
        versions = self.versions
        return any(
            received.outcome != "unchanged" and file in versions and versions[file].dataset is None
            for file, received in self.receipts.get(group, {}).items()
        )

    def groups(self) -> dict[str, set[str]]:
        """Every group that said anything of a file, with the topics of those files.

        One that only put messages aside may be no receiver of files.
        """
        # Few are, of millions.
        elsewhere = [sent for sent in self.versions.values() if sent.topic != CHUNKS.name]
        found: dict[str, set[str]] = {}
        for said in (self.receipts, self.dead):
            for group, files in said.items():
                topics = [sent.topic for sent in elsewhere if sent.file in files]
                found.setdefault(group, set()).update(topics, [CHUNKS.name] if len(files) > len(topics) else ())
        return found


def _delivered_lines(ack: UploadAck) -> bytes | None:
    return next((covers.lines for covers in ack.covers if covers.outcome == "delivered"), None)


def _file_of_item(item: str) -> bytes | None:
    if len(item) != 2 * FILE_ID_BYTES:
        return None
    try:
        return bytes.fromhex(item)
    except ValueError:
        return None


def _weight(received: Received) -> tuple[object, ...]:
    """A total order of receipts for one item in one group: by outcome, else the later one, else by content."""
    return (
        _OUTCOME_RANK[received.outcome],
        received.last,
        received.at,
        received.first,
        received.outcome,
        received.code or "",
        received.where or "",
        received.hash or b"",
        -1 if received.size is None else received.size,
        received.alg or "",
        received.etag or "",
        received.version or "",
        -1 if received.ctime_ns is None else received.ctime_ns,
    )
