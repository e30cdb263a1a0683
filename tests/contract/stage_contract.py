"""What every stage owes the loop, as tests: subclass `StageContract`, and say how to feed and inspect your stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MethodType

import confluent_kafka
import pytest

from headrace.broker import EmbeddedBroker
from headrace.errors import TransientError
from headrace.events import UploadAck
from headrace.kafka.clients import Cluster
from headrace.stage.contract import Message, Stage
from headrace.stage.offsets import parse_metadata
from headrace.topics import Topic
from tests.support.feeding import Feeder
from tests.support.running import dead_letters, header, new_cluster, receipts_on_log, running
from tests.support.verifying import books_wrong
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Fed:
    """An item as it is put on the log: its name, and its messages (topic, key, value, partition)."""

    item: str
    messages: Sequence[tuple[Topic, bytes, bytes, int]]


class Unwell(TransientError):
    """The outside is unwell, says the test; trying again in {retry_after} s."""

    default_retry_after = 0.3


@pytest.mark.kafka
class StageContract(ABC):
    """Feeds a stage on real Kafka, and hurts it."""

    @abstractmethod
    def stage(self, place: Path) -> Stage:
        """A new stage that writes below `place`."""

    @abstractmethod
    def good(self, feeder: Feeder, number: int) -> Fed:
        """An item that the stage delivers; different for each number."""

    @abstractmethod
    def effects(self, place: Path) -> Mapping[str, Hashable]:
        """What the stage has done below `place`, by the effect's name: something that changes if it is repeated."""

    @pytest.fixture
    def cluster(self, broker: EmbeddedBroker, prefix: str) -> Cluster:
        return new_cluster(broker.bootstrap, prefix)

    @pytest.fixture
    def feeder(self, cluster: Cluster) -> Feeder:
        return Feeder(cluster)

    @pytest.fixture(autouse=True)
    def _books(self, cluster: Cluster) -> Iterator[None]:
        """Whatever was done to the stage: the books of files are those that the raw topics give."""
        yield
        assert books_wrong(cluster) == []

    def feed(self, feeder: Feeder, count: int, start: int = 0) -> list[Fed]:
        items = [self.good(feeder, number) for number in range(start, start + count)]
        for fed in items:
            for topic, key, value, partition in fed.messages:
                feeder.raw(topic, value, key, partition)
        feeder.flush()
        return items

    def receipts(self, cluster: Cluster) -> list[UploadAck]:
        """Those that close items; a stage may give others besides."""
        return receipts_on_log(cluster)

    def delivered(self, cluster: Cluster) -> Counter[str]:
        return Counter(ack.item for ack in self.receipts(cluster) if ack.covers[0].outcome == "delivered")

    def test_every_item_is_delivered_and_has_one_receipt(
        self, cluster: Cluster, feeder: Feeder, tmp_path: Path
    ) -> None:
        items = self.feed(feeder, 10)
        with running(self.stage(tmp_path), cluster):
            wait_until(lambda: len(self.receipts(cluster)) >= 10, within=20)
        assert self.delivered(cluster) == Counter({fed.item: 1 for fed in items})
        assert len(self.effects(tmp_path)) == 10

    def test_poison_is_put_aside_with_a_receipt_and_what_follows_is_delivered(
        self, cluster: Cluster, feeder: Feeder, tmp_path: Path
    ) -> None:
        topic, key, _, partition = self.good(feeder, 0).messages[0]
        # A compacted topic takes no message without a key.
        third = None if topic.cleanup == "delete" else b"\xff\xfe"
        for poison, poison_key in ((b"", key), (b"\x00junk", b"junk"), (b"\xc3\x01" + b"\x07" * 40, third)):
            feeder.raw(topic, poison, poison_key, partition)
        feeder.flush()
        items = self.feed(feeder, 3)
        with running(self.stage(tmp_path), cluster):
            wait_until(lambda: len(self.receipts(cluster)) >= 6, within=20)
        assert self.delivered(cluster) == Counter({fed.item: 1 for fed in items})
        letters = dead_letters(cluster)
        assert sorted(letter.value() or b"" for letter in letters) == sorted(
            [b"", b"\x00junk", b"\xc3\x01" + b"\x07" * 40]
        )
        for letter in letters:
            assert header(letter, "dlq-topic") == cluster.topic_name(topic)
            assert header(letter, "dlq-error")
        outcomes = Counter(ack.covers[0].outcome for ack in self.receipts(cluster))
        assert outcomes == {"delivered": 3, "dead_lettered": 3}

    def test_messages_that_are_handed_over_twice_change_nothing(
        self, cluster: Cluster, feeder: Feeder, tmp_path: Path
    ) -> None:
        items = self.feed(feeder, 5)
        stage = self.stage(tmp_path)
        handle = stage.handle

        def twice(_self: Stage, batch: Sequence[Message]) -> None:
            handle(batch)
            handle(batch)

        stage.handle = MethodType(twice, stage)  # type: ignore[method-assign]
        with running(stage, cluster):
            wait_until(lambda: len(self.receipts(cluster)) >= 5, within=20)
        assert self.delivered(cluster) == Counter({fed.item: 1 for fed in items})
        assert len(self.effects(tmp_path)) == 5

    def test_an_unwell_outside_pauses_and_loses_nothing(self, cluster: Cluster, feeder: Feeder, tmp_path: Path) -> None:
        items = self.feed(feeder, 5)
        stage = self.stage(tmp_path)
        handle, failures = stage.handle, iter(range(3))

        def unwell(_self: Stage, batch: Sequence[Message]) -> None:
            if next(failures, None) is not None:
                raise Unwell(what="the outside", problem="a test says so")
            handle(batch)

        stage.handle = MethodType(unwell, stage)  # type: ignore[method-assign]
        with running(stage, cluster):
            wait_until(lambda: len(self.receipts(cluster)) >= 5, within=20)
        assert self.delivered(cluster) == Counter({fed.item: 1 for fed in items})

    def test_poison_behind_messages_that_have_to_wait_does_not_make_them_forgotten(
        self, cluster: Cluster, feeder: Feeder, tmp_path: Path
    ) -> None:
        (fed,) = self.feed(feeder, 1)
        topic, key, _, partition = fed.messages[-1]
        feeder.raw(topic, b"\x00junk", key, partition)
        feeder.flush()
        stage = self.stage(tmp_path)
        waiting: set[int] = set()

        def unwell(_self: Stage, batch: Sequence[Message]) -> None:
            waiting.update(message.offset for message in batch)
            raise Unwell(what="the outside", problem="a test says so")

        stage.handle = MethodType(unwell, stage)  # type: ignore[method-assign]
        with running(stage, cluster):
            # Of a foreign topic the stage itself must find it out.
            wait_until(lambda: dead_letters(cluster) or len(waiting) > len(fed.messages), within=20)
        with running(self.stage(tmp_path), cluster):
            wait_until(lambda: self.delivered(cluster) == Counter({fed.item: 1}), within=20)

    def test_a_short_wait_that_becomes_a_long_one_ends_all_the_same(
        self, cluster: Cluster, feeder: Feeder, tmp_path: Path
    ) -> None:
        self.feed(feeder, 1)
        stage = self.stage(tmp_path)
        handle, waits = stage.handle, iter((0.05, 0.8))

        def unwell(_self: Stage, batch: Sequence[Message]) -> None:
            seconds = next(waits, None)
            if seconds is not None:
                raise Unwell(what="the outside", problem="a test says so", retry_after=seconds)
            handle(batch)

        stage.handle = MethodType(unwell, stage)  # type: ignore[method-assign]
        with running(stage, cluster):
            wait_until(lambda: len(self.receipts(cluster)) >= 1, within=20)
            # Another one for each partition: also where it was waited, messages are taken again.
            self.feed(feeder, 3, start=1)
            wait_until(lambda: len(self.receipts(cluster)) >= 4, within=20)

    def test_nothing_is_committed_before_its_receipt_is_on_the_log(
        self, cluster: Cluster, feeder: Feeder, tmp_path: Path
    ) -> None:
        self.feed(feeder, 5)
        stage = self.stage(tmp_path)
        stage.flush = lambda: None  # type: ignore[method-assign]
        with running(stage, cluster) as loop:
            # Positions move to the end, the committed offset stays at the first message of an open item.
            wait_until(lambda: self.positions(cluster, loop.loop.group, stage) >= 5, within=20)
            marks = {part.partition: part.offset for part in self.committed(cluster, loop.loop.group, stage)}
        assert set(marks.values()) == {0}
        assert not self.receipts(cluster)

    def test_a_restart_does_nothing_twice_and_goes_on(self, cluster: Cluster, feeder: Feeder, tmp_path: Path) -> None:
        self.feed(feeder, 5)
        with running(self.stage(tmp_path), cluster):
            wait_until(lambda: len(self.receipts(cluster)) >= 5, within=20)
        before = dict(self.effects(tmp_path))
        self.feed(feeder, 5, start=5)
        with running(self.stage(tmp_path), cluster):
            wait_until(lambda: len(self.receipts(cluster)) >= 10, within=20)
        after = self.effects(tmp_path)
        assert {name: after[name] for name in before} == before
        assert set(self.delivered(cluster).values()) == {1}

    def test_offsets_that_a_tool_set_back_repeat_no_effect(
        self, cluster: Cluster, feeder: Feeder, tmp_path: Path
    ) -> None:
        self.feed(feeder, 5)
        stage = self.stage(tmp_path)
        with running(stage, cluster) as loop:
            wait_until(lambda: len(self.receipts(cluster)) >= 5, within=20)
            group = loop.loop.group
        before = dict(self.effects(tmp_path))
        tool = cluster.consumer(group)
        name = cluster.topic_name(stage.reads[0])
        offsets = [
            confluent_kafka.TopicPartition(name, number, 0) for number in range(cluster.partitions(stage.reads[0]))
        ]
        wait_until(lambda: self.set_offsets(tool, offsets), within=20)
        tool.close()
        self.feed(feeder, 1, start=5)
        with running(self.stage(tmp_path), cluster):
            wait_until(lambda: len(self.receipts(cluster)) >= 6, within=20)
        after = self.effects(tmp_path)
        assert {name: after[name] for name in before} == before
        assert set(self.delivered(cluster).values()) == {1}

    def test_two_copies_share_the_work_and_one_goes_on_alone(
        self, cluster: Cluster, feeder: Feeder, tmp_path: Path
    ) -> None:
        self.feed(feeder, 10)
        with running(self.stage(tmp_path), cluster, instance="one"):
            with running(self.stage(tmp_path), cluster):
                self.feed(feeder, 10, start=10)
                wait_until(lambda: len(self.delivered(cluster)) == 20, within=30)
            self.feed(feeder, 10, start=20)
            wait_until(lambda: len(self.delivered(cluster)) == 30, within=30)
        assert len(self.effects(tmp_path)) == 30

    @staticmethod
    def set_offsets(tool: confluent_kafka.Consumer, offsets: list[confluent_kafka.TopicPartition]) -> bool:
        """Whether the group has no members any more, so that its offsets can be set."""
        try:
            answers = tool.commit(offsets=offsets, asynchronous=False)
        except confluent_kafka.KafkaException:
            return False
        return all(part.error is None for part in answers)

    @staticmethod
    def committed(cluster: Cluster, group: str, stage: Stage) -> list[confluent_kafka.TopicPartition]:
        """The group's committed offsets of the stage's first topic."""
        name = cluster.topic_name(stage.reads[0])
        reader = cluster.consumer(group)
        wanted = [confluent_kafka.TopicPartition(name, number) for number in range(cluster.partitions(stage.reads[0]))]
        found = [part for part in reader.committed(wanted, timeout=10) if part.offset >= 0]
        reader.close()
        return found

    def positions(self, cluster: Cluster, group: str, stage: Stage) -> int:
        """Messages that the group has passed, as the commits' metadata say."""
        marks = (parse_metadata(part.metadata) for part in self.committed(cluster, group, stage))
        return sum(mark[0] for mark in marks if mark is not None)
