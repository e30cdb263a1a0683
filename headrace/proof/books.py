"""The books: what became of every version of every file in every group, and what is left to do.

Everything is a pure function of the evidence: no clock, no Kafka. For every group that must have a version there is
exactly one entry, so sent = delivered + unchanged + dead-lettered + held + failed + open + missing.
Source: design section 1, rule 3.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Literal

import msgspec

from headrace.proof.evidence import Evidence, Received, Sent

Status = Literal["delivered", "unchanged", "dead_lettered", "held", "failed", "open", "missing"]
STATUSES: tuple[Status, ...] = ("delivered", "unchanged", "dead_lettered", "held", "failed", "open", "missing")
GOOD: frozenset[Status] = frozenset({"delivered", "unchanged"})
"""Nothing is left to do."""

Positions = Mapping[str, Mapping[str, Mapping[int, int]]]
"""The groups that must have every file of some topics: by group and topic the committed offset of each partition."""

HASH_DIFFERS = "hash-differs"
SIZE_DIFFERS = "size-differs"
DISCARDED = "discarded"

_SETTLEABLE: frozenset[Status] = frozenset({"failed", "dead_lettered", "held", "missing"})


def expectations(said: Mapping[str, Iterable[str]], committed: Positions) -> Positions:
    """Who must have what: groups that left receipts for files of some topics, and those with committed positions."""
    heard: Positions = {
        group: {**{topic: {} for topic in said[group]}, **committed.get(group, {})} for group in sorted(said)
    }
    return {**heard, **{group: topics for group, topics in committed.items() if group not in said}}


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


def accounts(evidence: Evidence, positions: Positions, of_datasets: Container[str] = ()) -> Iterator[Account]:
    """An account of every version, in the order in which the sources spoke; versions only receipts know come last.

    Parameters:
        positions: who must have what. A version that a group has passed without a receipt is missing; before that it
            is open.
        of_datasets: groups that must have only files that name a dataset. What they say of others counts all the same,
            and one that has handled such a file must have all.
    """
    only = frozenset(group for group in positions if group in of_datasets and not evidence.takes_others(group))
    later = _later_attempts(evidence)
    for file, sent in evidence.versions.items():
        entries = {
            group: _entry(sent, evidence, group, topics[sent.topic].get(sent.partition))
            for group, topics in positions.items()
            if sent.topic in topics
            and (sent.dataset is not None or group not in only or evidence.said(group, sent.file))
        }
        if later:
            attempts = [other for attempt, other in later.get(_content(sent), ()) if attempt > sent.attempt]
            entries = {group: _settled(entry, attempts, group, evidence) for group, entry in entries.items()}
        yield Account(file, sent, entries)
    yield from _unannounced(evidence, positions)


def _unannounced(evidence: Evidence, groups: Mapping[str, object]) -> Iterator[Account]:
    found: dict[bytes, dict[str, Entry]] = {}
    for group in groups:
        of_group: dict[bytes, Received] = evidence.receipts.get(group, {})
        dead = evidence.dead.get(group, {})
        for file in sorted((of_group.keys() | dead.keys()) - evidence.versions.keys()):
            received, count = of_group.get(file), evidence.dead_messages(group, file)
            if received is not None or count:
                found.setdefault(file, {})[group] = _entry_of_receipt(None, received, count)
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
    dead = evidence.dead_messages(group, sent.file)
    if received is not None and received.outcome == "dead_lettered":
        item = sent.file.hex()
        if evidence.discarded(group, item, received.last):
            return Entry("unchanged", DISCARDED, received, _hashes_equal(sent, received))
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
