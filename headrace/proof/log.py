"""From the log into evidence: which events and receipts to read, partition by partition.

Files, receipts and chunks have equal partition counts and every event of a path lies in the same partition number
of each, so the books of one partition are closed before the next is read: memory is bounded by the largest partition.
Source: design section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import confluent_kafka
import msgspec

from headrace.codec import avro
from headrace.codec.avro import EventType
from headrace.deadletters.decisions import decision_of, group_name
from headrace.errors import ConfigError, PoisonError
from headrace.events import FileEvent, UploadAck
from headrace.kafka.clients import Cluster
from headrace.kafka.raw import RawMessage
from headrace.kafka.reading import BOUNDED, read_now, watermarks
from headrace.keys import decode_key, encode_key, partition_of, path_id
from headrace.proof.books import GOOD
from headrace.proof.evidence import DEAD_MESSAGE, FILE_ID_BYTES, Evidence, Sent
from headrace.topics import CHUNK_TOPICS, CHUNKS, FILES, UPLOAD_ACKS, Topic

_ID_CHARACTERS = 2 * FILE_ID_BYTES

CLOCKS_APART = 60_000
"""Milliseconds that the clocks of two brokers may differ. Source: design section 4, receipts by time."""

FAR_AHEAD: Mapping[str, Any] = {"fetch.message.max.bytes": 8 * 1024 * 1024, "queued.min.messages": 20_000}
"""One partition is read at a time, by a process that does little else: so it takes 0.3 s instead of 0.45 s for 334,000
receipts (measured)."""

Filter = Callable[[Sequence[RawMessage]], Iterable[RawMessage]]
"""Chooses among the messages of a batch by their undecoded bytes: what looks at millions takes a batch at a time."""


class UnequalPartitions(ConfigError):
    """The topics {topics} have different partition counts, so they cannot be joined. Give them the same count."""

    code = "unequal-partitions"


@dataclass(frozen=True, slots=True)
class Name:
    """What a user calls a file: its path, the end of its path, or its id in hexadecimal digits.

    With `source` the text is the whole path below that source's root, which names one partition to look in.
    """

    text: bytes
    source: str | None = None

    @property
    def file(self) -> bytes | None:
        """The file id, if the text is one."""
        if len(self.text) != _ID_CHARACTERS or self.source is not None:
            return None
        try:
            return bytes.fromhex(self.text.decode("ascii"))
        except ValueError:
            return None

    @property
    def path(self) -> bytes | None:
        """The path's id, if the source is known."""
        return None if self.source is None else path_id(self.source, self.text)

    def names(self, said: FileEvent | Sent) -> bool:
        """Whether a source's word is about a version of the file that is meant."""
        if self.source is not None:
            return said.path_id == self.path
        return said.path == self.text or said.path.endswith(b"/" + self.text) or said.file == self.file

    def filter(self) -> Filter:
        """Chooses the messages of the files topic that may be about the file."""
        path, text = self.path, self.text
        if path is not None:
            start = path.hex().encode()
            return lambda batch: [each for each in batch if (each.key() or b"").startswith(start)]
        # Avro holds the path's bytes as they are.
        return lambda batch: [
            each for each in batch if text in (each.value() or b"") or (each.key() or b"").endswith(text)
        ]


@dataclass(slots=True)
class Reader:
    """Reads the evidence of one cluster.

    Parameters:
        since: milliseconds since the epoch; only versions that an event or a receipt names from then on.
        name: only versions of this file.
        wanted: which groups' receipts to take.
        expected: groups that must have every file of these topics; of those without a receipt since then, earlier ones
            are looked for.
    """

    cluster: Cluster
    since: int | None = None
    name: Name | None = None
    wanted: Callable[[str], bool] = lambda _group: True
    expected: Mapping[str, Container[str]] = field(default_factory=dict)
    undecodable: int = 0

    def evidence(self) -> Iterator[Evidence]:
        """The evidence of each partition.

        Raises UnequalPartitions if the topics cannot be joined, KafkaUnreachable, MissingTopic.
        """
        consumer = self.cluster.consumer(None, {**BOUNDED, **FAR_AHEAD})
        try:
            # An id tells of no partition: where its source has not spoken of it is only looked at if none has.
            unspoken = []
            spoken = self.name is None or self.name.file is None
            for number in self._numbers(consumer):
                found = _Slice(self, consumer, number)
                evidence = found.read()
                if spoken or evidence.versions:
                    spoken = True
                    yield evidence
                else:
                    unspoken.append(found)
                del evidence
            for found in () if spoken else unspoken:
                yield found.read_unspoken()
        finally:
            consumer.close()

    def takers_of_others(self, groups: Collection[str]) -> frozenset[str]:
        """Those of some groups that have handled a file which names no dataset, in any partition.

        Raises what `evidence` raises.
        """
        found: set[str] = set()
        reader = Reader(self.cluster, wanted=groups.__contains__)
        consumer = self.cluster.consumer(None, {**BOUNDED, **FAR_AHEAD})
        try:
            for number in reader._numbers(consumer):
                if len(found) == len(groups):
                    break
                evidence = _Slice(reader, consumer, number).read_of_groups(groups)
                found.update(group for group in groups if evidence.takes_others(group))
        finally:
            consumer.close()
        return frozenset(found)

    def _numbers(self, consumer: confluent_kafka.Consumer) -> Iterable[int]:
        joined = (*CHUNK_TOPICS.values(), FILES, UPLOAD_ACKS)
        counts = {self.cluster.partitions(topic, consumer) for topic in joined}
        if len(counts) > 1:
            raise UnequalPartitions(topics=", ".join(self.cluster.topic_name(topic) for topic in joined))
        count = counts.pop()
        if self.name is not None and self.name.path is not None:
            return [partition_of(self.name.path.hex(), count)]
        return range(count)


class _Slice:
    """One partition's evidence in the making."""

    def __init__(self, reader: Reader, consumer: confluent_kafka.Consumer, number: int) -> None:
        self._reader = reader
        self._consumer = consumer
        self._number = number
        self._evidence = Evidence()
        self._deciders = group_name(reader.cluster)
        self._paths: dict[bytes, bytes] = {}
        self._heard: set[bytes] = set()
        self._withdrawn: set[bytes] = set()

    def read(self) -> Evidence:
        name, since = self._reader.name, self._reader.since
        if name is not None:
            self._read_named(name)
        elif since is not None:
            self._read_since(since)
        else:
            self._read_events(None)
            self._read_receipts(None)
        return self._evidence

    def _read_named(self, name: Name) -> None:
        self._read_events(name.filter(), meant=name.names)
        paths = {sent.path_id.hex().encode() for sent in self._evidence.versions.values()}
        if paths:
            # A later attempt may settle the version that is meant.
            if name.file is not None:
                self._read_events(_of_paths(paths))
            self._read_receipts(_of_paths(paths), start=self._first_receipt())

    def _first_receipt(self) -> int:
        """Where to begin with the receipts of the versions found: none is older than the first frame of its file."""
        # Who verifies need not be allowed to read personal files, not even for a frame's time.
        firsts = [sent.first if sent.topic == CHUNKS.name else None for sent in self._evidence.versions.values()]
        if None in firsts:
            return 0
        first = min(offset for offset in firsts if offset is not None)
        # A frame that expired, or is not there, tells no time.
        frames = self._messages(CHUNKS, None, first, first + 1)
        return min((self._at(UPLOAD_ACKS, frame.timestamp()[1] - CLOCKS_APART) for frame in frames), default=0)

    def read_unspoken(self) -> Evidence:
        """The receipts of a version, asked for by its id, that no source has spoken of here."""
        text = b"" if self._reader.name is None else self._reader.name.text
        self._read_receipts(lambda batch: [each for each in batch if (each.key() or b"").endswith(text)])
        return self._evidence

    def read_of_groups(self, groups: Iterable[str]) -> Evidence:
        """The receipts of some groups, and what the sources said of those versions."""
        names = [b"/" + encode_key((group,)) + b"/" for group in groups]
        self._read_receipts(
            lambda batch: [each for each in batch if any(name in (each.key() or b"") for name in names)]
        )
        files = {file.hex().encode() for received in self._evidence.receipts.values() for file in received}
        if files:
            self._read_events(lambda batch: [each for each in batch if (each.key() or b"")[-_ID_CHARACTERS:] in files])
        return self._evidence

    def _read_since(self, since: int) -> None:
        events_from = self._at(FILES, since)
        receipts_from = self._at(UPLOAD_ACKS, since)
        self._read_events(None, start=events_from)
        self._read_receipts(None, start=receipts_from)
        # What happened before only matters for versions that something happened to since.
        versions = self._evidence.versions
        unexplained = {path for file, path in self._paths.items() if file not in versions}
        if unexplained:
            named = self._paths.keys()
            self._read_events(_of_paths(unexplained), meant=lambda event: event.file in named, end=events_from)
        lacking = self._lacking()
        if lacking:
            self._read_receipts(_of_paths(lacking), meant=lambda ack: ack.file in versions, end=receipts_from)

    def _lacking(self) -> set[bytes]:
        """Paths of versions that some group has no good receipt of."""
        evidence = self._evidence
        expected = {**evidence.groups(), **self._reader.expected}
        receipts = [(topics, evidence.receipts.get(group, {})) for group, topics in expected.items()]
        return {
            sent.path_id.hex().encode()
            for file, sent in evidence.versions.items()
            if any(
                sent.topic in topics and (file not in of_group or of_group[file].outcome not in GOOD)
                for topics, of_group in receipts
            )
        }

    def _read_events(
        self,
        wanted: Filter | None,
        *,
        meant: Callable[[FileEvent], bool] | None = None,
        start: int = 0,
        end: int | None = None,
    ) -> None:
        for message in self._messages(FILES, wanted, start, end):
            value = message.value()
            if not value:
                continue
            event = self._decoded(value, FileEvent)
            if event is not None and (meant is None or meant(event)):
                self._evidence.take_event(event, message.offset() or 0)

    def _read_receipts(
        self,
        wanted: Filter | None,
        *,
        meant: Callable[[UploadAck], bool] | None = None,
        start: int = 0,
        end: int | None = None,
    ) -> None:
        remember = self._reader.since is not None
        # What is read to an end is older than what has been read before, and does not overrule it.
        older = end is not None
        for message in self._messages(UPLOAD_ACKS, wanted, start, end):
            key, value = message.key() or b"", message.value()
            if older and key in self._withdrawn:
                continue
            if not value:
                if not (older and key in self._heard):
                    self._withdraw(key)
                if not older:
                    self._withdrawn.add(key)
                continue
            if remember and not older:
                self._heard.add(key)
                self._withdrawn.discard(key)
            ack = self._decoded(value, UploadAck)
            if ack is not None and ack.group == self._deciders:
                decision = decision_of(ack)
                if decision is not None and self._reader.wanted(decision.group):
                    self._evidence.take_decision(decision)
                continue
            if ack is None or not self._reader.wanted(ack.group) or (meant is not None and not meant(ack)):
                continue
            if ack.file is not None and ack.item.startswith(DEAD_MESSAGE):
                ack = self._at_home(ack, key)
            self._evidence.take_receipt(ack)
            if remember and ack.file is not None:
                self._paths[ack.file] = key[:_ID_CHARACTERS]

    def _at_home(self, ack: UploadAck, key: bytes) -> UploadAck:
        """A dead message in another partition than its key's belongs to no file: its books are of one partition."""
        path = key[:_ID_CHARACTERS].decode("ascii", "replace")
        home = partition_of(path, self._reader.cluster.partitions(UPLOAD_ACKS))
        return ack if home == self._number else msgspec.structs.replace(ack, file=None)

    def _withdraw(self, raw: bytes) -> None:
        """An empty message takes the receipt before it back, as compaction will."""
        try:
            key = decode_key(raw)
        except PoisonError:
            self._reader.undecodable += 1
            return
        if len(key) == 3:
            self._evidence.withdraw(key[1], key[2])

    def _messages(self, topic: Topic, wanted: Filter | None, start: int, end: int | None) -> Iterator[RawMessage]:
        ends: Mapping[int, int] | None = None if end is None else {self._number: end}
        batches = read_now(
            self._reader.cluster, topic, starts={self._number: start}, ends=ends, consumer=self._consumer
        )
        return (message for batch in batches for message in (batch if wanted is None else wanted(batch)))

    def _at(self, topic: Topic, milliseconds: int) -> int:
        name = self._reader.cluster.topic_name(topic)
        (found,) = self._consumer.offsets_for_times(
            [confluent_kafka.TopicPartition(name, self._number, milliseconds)], timeout=10
        )
        if found.offset >= 0:
            return int(found.offset)
        return watermarks(self._reader.cluster, self._consumer, name, self._number)[1]

    def _decoded(self, value: bytes, kind: type[EventType]) -> EventType | None:
        try:
            return avro.decode(value, kind)
        except PoisonError:
            self._reader.undecodable += 1
            return None


def _of_paths(paths: set[bytes]) -> Filter:
    """Messages of these paths: the first part of the key, in hexadecimal digits."""
    return lambda batch: [each for each in batch if (each.key() or b"")[:_ID_CHARACTERS] in paths]
