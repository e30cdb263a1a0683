"""What a replay would do again: every version of a file that a group should have at its destination and has not.

A replay does not trust receipts, it looks: what a receipt names is read and compared, or asked for by HEAD where the
receipt has an etag. What is intact keeps its receipt, which covers it as ever, so an intact destination sees no write.
Source: design section 4, "Replay".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from headrace.kafka.clients import Cluster
from headrace.kafka.reading import watermarks
from headrace.objects.store import Head
from headrace.proof.books import Account, Entry, accounts
from headrace.proof.destinations import Check, Look, Read, check, is_absent
from headrace.proof.evidence import Received, Sent
from headrace.proof.groups import UnknownSink, positions
from headrace.proof.log import Name, Reader
from headrace.proof.verify import newest_of_each_place, read_again
from headrace.stage.contract import Partition, Version
from headrace.topics import CHUNK_TOPICS, CHUNKS, Topic

Why = Literal["gone", "differs", "expired", "missing", "failed", "dead_lettered", "held"]

Window = Mapping[Partition, tuple[int, int]]
"""Offsets per partition of the topics that a service reads files from: the first, and the one after the last."""

EXAMPLES = 20
# That it is no longer there is no loss, and "expired" is what cannot be made again.
_KEPT_AS: Mapping[str, str] = {"expired": "records_expired"}


class Work(msgspec.Struct, frozen=True, gc=False):
    """One version of a file to make again: where its frames are on the log, and why it is needed."""

    file: bytes
    path_id: bytes
    path: bytes
    size: int
    partition: int
    first: int
    last: int
    why: Why
    topic: str = CHUNKS.name

    @property
    def place(self) -> Partition:
        """Where its frames are."""
        return Partition(self.topic, self.partition)

    @property
    def item(self) -> str:
        """The file id, as receipts and keys bear it."""
        return self.file.hex()


@dataclass
class Plan:
    """What there is to do for one group.

    `newest` is the newest version that is delivered, by path id, of paths that there is work for; `kept` counts what
    stays as it is, by the reason; `examples` has a few words on each that cannot be made again or looked at.
    """

    group: str
    work: list[Work] = field(default_factory=list)
    newest: dict[str, Version] = field(default_factory=dict)
    kept: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes to make again."""
        return sum(work.size for work in self.work)

    @property
    def impossible(self) -> int:
        """Versions that are needed and cannot be had: their frames have expired, or nobody can look at the place."""
        return self.kept["expired"] + self.kept["unreadable"]


def confirm(
    received: Received,
    readers: Mapping[str, Read],
    heads: Mapping[str, Callable[[str], Head | None]],
    home: bytes | None = None,
) -> Check:
    """Whether what a receipt names is there: by size and etag where the place can say so, else by reading it.

    Parameters:
        readers: how to read, by URL scheme; `heads`: how to ask for size and etag alone.
        home: a folder that is surely on this machine: what is not in it is gone, even if the whole folder is.
    """
    if home is not None and is_absent(received.where or "", home):
        return Check("gone")
    head = heads.get((received.where or "").partition(":")[0])
    if head is None or received.where is None or received.etag is None:
        return check(received, readers)
    try:
        found = head(received.where)
    except Exception as error:  # noqa: BLE001 - told, like an unreadable file
        return Check("unreadable", str(error))
    if found is None:
        return Check("gone")
    if received.size is not None and found.size != received.size:
        return Check("differs", f"{found.size} bytes instead of {received.size}")
    return Check("intact") if found.stored.etag == received.etag else Check("differs", "another etag")


@dataclass
class Planner:
    """Finds out what there is to do for one group.

    Parameters:
        topics: those of chunks that it reads.
        look: what lies at the place that a receipt names; see `confirm`. Where nobody can look, what is delivered is
            taken to be there.
        name: only versions of this file; `window`: only versions with frames in it.
        failed: also what failed, died or is held.
    """

    cluster: Cluster
    group: str
    topics: Sequence[Topic]
    look: Look
    name: Name | None = None
    window: Window | None = None
    failed: bool = False

    def plan(self, advance: Callable[[int], None] = lambda _count: None) -> Plan:
        """Read the log and look at the destinations; `advance` is told how many versions are dealt with.

        Raises UnknownSink if the group has read nothing and said nothing, UnequalPartitions, MissingTopic,
        KafkaUnreachable.
        """
        plan = Plan(self.group)
        known = positions(self.cluster)
        names = [topic.name for topic in self.topics]
        committed = {topic: known.get(self.group, {}).get(topic, {}) for topic in names}
        heard = any(committed.values())
        reader = Reader(self.cluster, None, self.name, lambda group: group == self.group, {self.group: names})
        beginnings = chunk_bounds(self.cluster, self.topics)
        count = 0
        for evidence in reader.evidence():
            heard = heard or self.group in evidence.groups()
            found = list(accounts(evidence, {self.group: committed}))
            meant = [account for account in found if self._meant(account)]
            checks = read_again(meant, newest_of_each_place(found), self.look)
            work = []
            for account in meant:
                sent, entry = account.sent, account.entries.get(self.group)
                count += 1
                if sent is None or entry is None:
                    plan.kept["unannounced"] += 1
                    continue
                wanted = self._sort(plan, sent, entry, checks.get(account.file, {}).get(self.group), beginnings)
                if wanted is not None:
                    work.append(wanted)
            plan.work += work
            self._remember(plan, found, {each.path_id for each in work}, {each.file for each in work})
            advance(count)
        if not heard:
            listed = ", ".join(sorted(known)) or "none"
            raise UnknownSink(sink=self.group, known=listed)
        return plan

    def _meant(self, account: Account) -> bool:
        sent = account.sent
        if sent is None:
            return self.name is None and self.window is None
        if all(topic.name != sent.topic for topic in self.topics):
            return False
        if self.name is not None and not self.name.names(sent):
            return False
        return self.window is None or within(sent, self.window)

    def _sort(self, plan: Plan, sent: Sent, entry: Entry, found: Check | None, bounds: Window) -> Work | None:
        why: Why
        if entry.settled_by is not None:
            plan.kept["settled"] += 1
            return None
        if found is not None and found.finding in ("gone", "differs"):
            why = "gone" if found.finding == "gone" else "differs"
        elif found is not None and found.finding == "expired" and self.failed:
            why = "expired"
        elif found is not None and entry.status == "delivered":
            plan.kept[_KEPT_AS.get(found.finding, found.finding)] += 1
            if found.finding in ("unreadable", "expired") and len(plan.examples) < EXAMPLES:
                plan.examples.append(f"{entry.received.where if entry.received else ''}: {found.reason}")
            return None
        elif entry.status == "missing":
            why = "missing"
        elif entry.status in ("failed", "dead_lettered", "held") and self.failed:
            why = entry.status
        else:
            plan.kept[entry.status] += 1
            return None
        first, last = _frames_of(sent, entry.received, bounds[_place(sent)][0])
        if first is None or last is None:
            plan.kept["expired"] += 1
            if len(plan.examples) < EXAMPLES:
                plan.examples.append(f"file {sent.file.hex()}: its frames are no longer on the log")
            return None
        return Work(sent.file, sent.path_id, sent.path, sent.size or 0, sent.partition, first, last, why, sent.topic)

    def _remember(self, plan: Plan, found: list[Account], paths: set[bytes], files: set[bytes]) -> None:
        for account in found:
            sent, entry = account.sent, account.entries.get(self.group)
            if sent is None or entry is None or sent.path_id not in paths or sent.file in files:
                continue
            if entry.status != "delivered" or entry.received is None:
                continue
            version = Version(entry.received.ctime_ns, entry.received.first, sent.file)
            known = plan.newest.get(sent.path_id.hex())
            if known is None or version.newer_than(known):
                plan.newest[sent.path_id.hex()] = version


def expected(cluster: Cluster, name: Name | None, window: Window) -> Iterator[tuple[Sent, bool]]:
    """Every announced version with frames in `window`, and whether all of them are still on the log."""
    bounds = chunk_bounds(cluster, [CHUNK_TOPICS[topic] for topic in {place.topic for place in window}])
    reader = Reader(cluster, None, name, lambda _group: False)
    for evidence in reader.evidence():
        for sent in evidence.versions.values():
            if sent.state == "announced" and within(sent, window) and (name is None or name.names(sent)):
                yield sent, sent.first is not None and sent.first >= bounds[_place(sent)][0]


def within(sent: Sent, window: Window) -> bool:
    """Whether a version has frames in the window."""
    start, end = window.get(_place(sent), (0, 0))
    last = sent.last if sent.last is not None else sent.first
    first = sent.first if sent.first is not None else sent.last
    return first is not None and last is not None and last >= start and first < end


def _place(sent: Sent) -> Partition:
    return Partition(sent.topic, sent.partition)


def chunk_bounds(cluster: Cluster, topics: Iterable[Topic]) -> dict[Partition, tuple[int, int]]:
    """The first offset and the one after the last of each partition of some topics.

    Raises MissingTopic, KafkaUnreachable.
    """
    consumer = cluster.consumer(None)
    try:
        return {
            Partition(topic.name, number): watermarks(cluster, consumer, cluster.topic_name(topic), number)
            for topic in topics
            for number in range(cluster.partitions(topic, consumer))
        }
    finally:
        consumer.close()


def _frames_of(sent: Sent, received: Received | None, beginning: int) -> tuple[int | None, int | None]:
    """Where a version's frames are; one that came back from the dead letters may be there when its first is gone."""
    if sent.first is not None and sent.first >= beginning:
        return sent.first, sent.last if sent.last is not None else sent.first
    if received is not None and sent.last is not None and received.last > sent.last and received.last >= beginning:
        return received.last, received.last
    return None, None
