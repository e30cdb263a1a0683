"""The arithmetic of books: what was sent, what each group made of it, and whether that adds up.

Books are sets. Work that is done twice leaves its receipts twice, in any order, so nothing here counts what it is
told: events and receipts go into dictionaries by identity, and the sums are taken at the end. Everything is a pure
function of the log: no clock, no Kafka. Source: design section 1, rules 2 to 4.

For every group: sent = delivered + unchanged + dead-lettered + held + failed + open + missing.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from headrace.events import Covers, FileEvent, FileState, Outcome, UploadAck

Status = Literal["delivered", "unchanged", "dead_lettered", "held", "failed", "open", "missing"]
STATUSES: tuple[Status, ...] = ("delivered", "unchanged", "dead_lettered", "held", "failed", "open", "missing")

FILE_ID_BYTES = 16
DEAD_MESSAGE = "dead:"
"""Begins the item name of a receipt for one message that went to the dead letters: `dead:<partition>:<offset>`."""

HASH_DIFFERS = "hash-differs"
SIZE_DIFFERS = "size-differs"

# A delivered receipt of an item wins over every other, whenever it came (design section 1, rule 4).
_OUTCOME_RANK: Mapping[Outcome, int] = {"delivered": 2, "unchanged": 1, "dead_lettered": 0, "held": 0, "failed": 0}
# A receipt that covers parts of an item with different outcomes is as good as its worst part.
_WORST_FIRST: tuple[Outcome, ...] = ("failed", "dead_lettered", "held", "delivered", "unchanged")
GOOD: frozenset[Status] = frozenset({"delivered", "unchanged"})
"""Nothing is left to do."""

_SETTLEABLE: frozenset[Status] = frozenset({"failed", "dead_lettered", "held", "missing"})


class Sent(msgspec.Struct, frozen=True, gc=False):
    """What a source said last of one version of a file.

    `last` is the offset of its closing frame in `partition` of the chunks topic, `offset` the event's own in the files
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
    size: int | None
    alg: str | None
    hash: bytes | None
    partition: int
    last: int | None
    reason: str | None
    at: int
    offset: int


class Received(msgspec.Struct, frozen=True, gc=False):
    """What a group said of one version of a file. `where` is a URL, `etag` and `version` are the destination's own."""

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


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One line of the books: what became of a version in one group.

    `hashes_equal` is None where one side has none, or they are of different algorithms. `settled_by` is a later
    attempt of the same version that this group has. `dead_messages` counts its messages among the dead letters.
    """

    status: Status
    code: str | None = None
    received: Received | None = None
    hashes_equal: bool | None = None
    settled_by: bytes | None = None
    dead_messages: int = 0

    @property
    def good(self) -> bool:
        """Whether nothing is left to do: it is there, need not be, or a later attempt is."""
        return self.status in GOOD or self.settled_by is not None


class Account(msgspec.Struct, frozen=True):
    """One version of a file with its entry per group. `sent` is None when only receipts know of it."""

    file: bytes
    sent: Sent | None
    entries: dict[str, Entry]

    @property
    def good(self) -> bool:
        """Whether every group is done with it, and there is a group."""
        return bool(self.entries) and all(entry.good for entry in self.entries.values())


class Evidence:
    """What the log says, as sets: take events and receipts in any order, any number of times."""

    def __init__(self) -> None:
        self.versions: dict[bytes, Sent] = {}
        self.receipts: dict[str, dict[bytes, Received]] = {}
        self.dead: dict[str, dict[bytes, set[str]]] = {}
        self.stray: dict[str, set[str]] = {}

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
            size=event.size,
            alg=sys.intern(event.alg) if event.alg else None,
            hash=event.hash,
            partition=event.partition,
            last=event.last,
            reason=event.reason,
            at=event.at,
            offset=offset,
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
        worst = min(ack.covers, key=_badness)
        received = Received(
            outcome=worst.outcome,
            code=sys.intern(worst.code) if worst.code else None,
            where=ack.where,
            alg=sys.intern(ack.alg) if ack.alg else None,
            hash=ack.hash,
            size=ack.size,
            etag=ack.etag,
            version=ack.version,
            ctime_ns=ack.ctime_ns,
            first=ack.first,
            last=ack.last,
            at=ack.at,
        )
        of_group = self.receipts.setdefault(sys.intern(ack.group), {})
        known = of_group.get(file)
        if known is None or _weight(known) < _weight(received):
            of_group[file] = received

    def groups(self) -> set[str]:
        """Every group that said anything."""
        return self.receipts.keys() | self.dead.keys() | self.stray.keys()


def _file_of_item(item: str) -> bytes | None:
    if len(item) != 2 * FILE_ID_BYTES:
        return None
    try:
        return bytes.fromhex(item)
    except ValueError:
        return None


def _badness(covers: Covers) -> tuple[int, str]:
    return _WORST_FIRST.index(covers.outcome), covers.code or ""


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


def accounts(evidence: Evidence, positions: Mapping[str, Mapping[int, int]]) -> Iterator[Account]:
    """An account of every version, in the order in which the sources spoke; versions only receipts know come last.

    Parameters:
        positions: the groups that must have every file, each with its committed offset per partition of the chunks
            topic. A version that a group has passed without a receipt is missing; before that it is open.
    """
    later = _later_attempts(evidence)
    for file, sent in evidence.versions.items():
        entries = {
            group: _entry(sent, evidence, group, position.get(sent.partition)) for group, position in positions.items()
        }
        attempts = [other for attempt, other in later.get(_content(sent), ()) if attempt > sent.attempt]
        if attempts:
            entries = {group: _settled(entry, attempts, group, evidence) for group, entry in entries.items()}
        yield Account(file, sent, entries)
    yield from _unannounced(evidence, positions)


def _unannounced(evidence: Evidence, groups: Mapping[str, object]) -> Iterator[Account]:
    found: dict[bytes, dict[str, Entry]] = {}
    for group in groups:
        of_group: dict[bytes, Received] = evidence.receipts.get(group, {})
        dead = evidence.dead.get(group, {})
        for file in sorted((of_group.keys() | dead.keys()) - evidence.versions.keys()):
            found.setdefault(file, {})[group] = _entry_of_receipt(None, of_group.get(file), len(dead.get(file, ())))
    for file, entries in found.items():
        yield Account(file, None, entries)


def _content(sent: Sent) -> tuple[object, ...]:
    """What attempts of one version have in common. Source: design section 3, the file's id."""
    return sent.path_id, sent.inode, sent.size, sent.mtime_ns


def _later_attempts(evidence: Evidence) -> dict[tuple[object, ...], list[tuple[int, bytes]]]:
    later: defaultdict[tuple[object, ...], list[tuple[int, bytes]]] = defaultdict(list)
    for file, sent in evidence.versions.items():
        if sent.attempt > 0:
            later[_content(sent)].append((sent.attempt, file))
    for attempts in later.values():
        attempts.sort()
    return later


def _settled(entry: Entry, attempts: list[bytes], group: str, evidence: Evidence) -> Entry:
    if entry.status not in _SETTLEABLE:
        return entry
    of_group = evidence.receipts.get(group, {})
    for other in attempts:
        if other in of_group and _entry(evidence.versions[other], evidence, group, None).status in GOOD:
            return msgspec.structs.replace(entry, settled_by=other)
    return entry


def _entry(sent: Sent, evidence: Evidence, group: str, position: int | None) -> Entry:
    received = evidence.receipts.get(group, {}).get(sent.file)
    dead = len(evidence.dead.get(group, {}).get(sent.file, ()))
    if received is not None or (dead and sent.state != "sending"):
        return _entry_of_receipt(sent, received, dead)
    if sent.state == "aborted":
        return Entry("unchanged", code="aborted")
    if sent.state == "expired":
        return Entry("failed", code="expired")
    passed = position is not None and sent.last is not None and position > sent.last
    return Entry("missing" if passed and sent.state == "announced" else "open", dead_messages=dead)


def _entry_of_receipt(sent: Sent | None, received: Received | None, dead: int) -> Entry:
    """What a receipt says, checked against the source's word. A dead message alone kills the file it belongs to."""
    if received is None:
        return Entry("dead_lettered", code="dead-message", dead_messages=dead)
    equal = _hashes_equal(sent, received)
    if received.outcome != "delivered":
        return Entry(received.outcome, received.code, received, equal, dead_messages=dead)
    if equal is False:
        return Entry("failed", HASH_DIFFERS, received, equal, dead_messages=dead)
    if sent is not None and None not in (sent.size, received.size) and sent.size != received.size:
        return Entry("failed", SIZE_DIFFERS, received, equal, dead_messages=dead)
    return Entry("delivered", received.code, received, equal, dead_messages=dead)


def _hashes_equal(sent: Sent | None, received: Received) -> bool | None:
    if sent is None or sent.hash is None or received.hash is None or sent.alg != received.alg:
        return None
    return sent.hash == received.hash


class Book(msgspec.Struct):
    """One group's sums over file versions; `settled` are those among the bad ones that a later attempt made good."""

    counts: Counter[Status] = msgspec.field(default_factory=Counter)
    delivered_bytes: int = 0
    settled: int = 0
    bad: int = 0
    put_aside: int = 0

    @property
    def sent(self) -> int:
        """Every version there is an entry of."""
        return sum(self.counts[status] for status in STATUSES)

    def take(self, account: Account, entry: Entry) -> None:
        """Add one entry; each version of each group exactly once."""
        self.counts[entry.status] += 1
        if entry.status == "delivered":
            received_size = entry.received.size if entry.received else None
            self.delivered_bytes += received_size or (account.sent.size if account.sent else None) or 0
        if entry.settled_by is not None:
            self.settled += 1
        elif entry.status in ("dead_lettered", "held"):
            self.put_aside += 1
        elif not entry.good:
            self.bad += 1

    def add(self, other: Book) -> None:
        """Add the sums over other versions."""
        self.counts.update(other.counts)
        self.delivered_bytes += other.delivered_bytes
        self.settled += other.settled
        self.bad += other.bad
        self.put_aside += other.put_aside


class Totals(msgspec.Struct):
    """The sums over all groups, and what follows from them."""

    books: dict[str, Book] = msgspec.field(default_factory=dict)
    versions: int = 0
    sent_bytes: int = 0
    unannounced: int = 0
    unreceived: int = 0
    stray_dead_letters: int = 0

    def take(self, account: Account) -> None:
        """Add one version; each exactly once."""
        self.versions += 1
        if account.sent is None:
            self.unannounced += 1
        else:
            self.sent_bytes += account.sent.size or 0
        if not account.entries:
            self.unreceived += 1
        for group, entry in account.entries.items():
            self.books.setdefault(group, Book()).take(account, entry)

    @property
    def bad(self) -> int:
        """Entries that failed, are missing or still open, and versions that no group reads."""
        return sum(book.bad for book in self.books.values()) + self.unreceived

    @property
    def put_aside(self) -> int:
        """Entries and stray messages that wait for an operator: dead-lettered or held."""
        return sum(book.put_aside for book in self.books.values()) + self.stray_dead_letters

    @property
    def exit_code(self) -> int:
        """0 everything delivered or unchanged, 1 something is not, 3 balanced with dead letters or held items.

        Source: design section 4, exit codes.
        """
        if self.bad:
            return 1
        return 3 if self.put_aside else 0
