"""Keyed state: what was confirmed is known after any end, and a cache that cannot be trusted is made anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from headrace import receipts
from headrace.broker import EmbeddedBroker
from headrace.codec import avro
from headrace.kafka.admin import create_missing
from headrace.kafka.clients import Cluster
from headrace.kafka.reading import read_now
from headrace.keys import encode_key
from headrace.stage.contract import Context, Message, Partition, Stage
from headrace.stage.outbox import NotDelivered, Outbox
from headrace.state.keyed import KeyedState, StateNotReady
from headrace.topics import FILES, UPLOAD_ACKS, Topic
from tests.support.feeding import FedFile, Feeder
from tests.support.running import new_cluster, receipts_on_log, running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

COUNTS = Topic("state.counter", purpose="a test's", key="path id", framing="original", cleanup="compact")


class Counter(Stage):
    """Counts the versions of each path that were announced, each version once."""

    name: ClassVar[str] = "counter"
    reads: ClassVar[Sequence[Topic]] = (FILES,)
    writes: ClassVar[Sequence[Topic]] = (UPLOAD_ACKS, COUNTS)

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.state = KeyedState(cluster, COUNTS, folder)
        self.seen: dict[str, int] = {}

    def setup(self, context: Context) -> None:
        self._context = context
        self.state.setup(context)

    def assigned(self, partitions: Sequence[Partition]) -> None:
        self.state.assigned(partition.number for partition in partitions)

    def handle(self, batch: Sequence[Message]) -> None:
        for number in {message.partition.number for message in batch}:
            self.state.require(number)
        for message in batch:
            if self._context.done(message):
                continue
            self._context.open(message.item, message)
            key = encode_key((message.path,))
            (known,) = self.state.get(message.partition.number, [key])
            count = int(known or b"0") + 1
            self.state.put(message.partition.number, {key: str(count).encode()})
            self.seen[message.path] = count
            self._context.receipt(receipts.settle(self._context.group, message, message.offset, "delivered"))

    def tick(self, now: float) -> None:
        self.state.tick()

    def revoked(self, partitions: Sequence[Partition], lost: bool) -> None:
        self.state.revoked(partition.number for partition in partitions)

    def close(self) -> None:
        self.state.close()


@pytest.fixture
def cluster(broker: EmbeddedBroker, prefix: str) -> Cluster:
    cluster = new_cluster(broker.bootstrap, prefix)
    create_missing(cluster, [COUNTS])
    return cluster


def announce(cluster: Cluster, paths: Sequence[str], version: int) -> list[FedFile]:
    feeder = Feeder(cluster)
    files = [FedFile(path.encode(), b"", inode=version) for path in paths]
    for file in files:
        partition = feeder.partition(file)
        feeder.raw(FILES, avro.encode(file.event(partition, 0, 0)), file.key, partition)
    feeder.flush()
    return files


def count(cluster: Cluster, folder: Path, paths: Sequence[str], version: int) -> dict[str, int]:
    """Announce one more version of each path, and what a counter makes of it."""
    before = len(receipts_on_log(cluster))
    files = announce(cluster, paths, version)
    stage = Counter(cluster, folder)
    with running(stage, cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == before + len(paths), within=20)
    return {file.path.decode(): stage.seen[file.path_id.hex()] for file in files}


PATHS = [f"path-{number}" for number in range(50)]


def test_state_goes_on_where_it_was_on_the_same_and_on_another_machine(cluster: Cluster, tmp_path: Path) -> None:
    assert set(count(cluster, tmp_path / "here", PATHS, 1).values()) == {1}
    assert set(count(cluster, tmp_path / "here", PATHS, 2).values()) == {2}
    assert set(count(cluster, tmp_path / "elsewhere", PATHS, 3).values()) == {3}
    # The cache here missed a change that was made elsewhere.
    assert set(count(cluster, tmp_path / "here", PATHS, 4).values()) == {4}


def test_a_cache_of_a_topic_that_was_made_anew_is_not_believed(cluster: Cluster, tmp_path: Path) -> None:
    count(cluster, tmp_path, PATHS, 1)
    admin = cluster.admin()
    name = cluster.topic_name(COUNTS)
    admin.delete_topics([name])[name].result(10)
    wait_until(lambda: name not in cluster.admin().list_topics(timeout=10).topics, within=10)
    wait_until(lambda: create_missing(cluster, [COUNTS]), within=10)
    assert set(count(cluster, tmp_path, PATHS, 2).values()) == {1}


def test_a_cache_older_than_tombstones_last_is_read_anew(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count(cluster, tmp_path, PATHS, 1)
    monkeypatch.setattr("headrace.state.keyed.OLDEST_CACHE_SECONDS", -1.0)
    assert set(count(cluster, tmp_path, PATHS, 2).values()) == {2}


def test_two_changes_of_a_key_under_way_at_once_end_with_the_later(cluster: Cluster, tmp_path: Path) -> None:
    sent: list[Callable[[int], None]] = []

    class Waiting:
        def emit_all(self, topic: Topic, partition: int, messages: object, delivered: Callable[[int], None]) -> None:
            sent.append(delivered)

    state = KeyedState(cluster, COUNTS, tmp_path)
    state.setup(Waiting())  # type: ignore[arg-type]
    state.assigned([0])
    wait_until(lambda: is_ready(state), within=10)
    state.put(0, {b"key": b"one"})
    state.put(0, {b"key": b"two"})
    assert state.get(0, [b"key"]) == [b"two"]
    for offset, delivered in enumerate(sent):
        delivered(offset)
        state.tick()
        assert state.get(0, [b"key"]) == [b"two"]
    state.put(0, {b"key": None})
    assert state.get(0, [b"key"]) == [None]
    state.close()


def test_a_change_that_kafka_refused_is_not_taken_for_confirmed_by_a_later_one(cluster: Cluster) -> None:
    name = cluster.topic_name(COUNTS)
    limit = AlterConfigOpType.SET
    resource = ConfigResource(
        ResourceType.TOPIC,
        name,
        incremental_configs=[ConfigEntry("max.message.bytes", "1000", incremental_operation=limit)],
    )
    admin = cluster.admin()
    admin.incremental_alter_configs([resource])[resource].result(10)
    # Each in a batch of its own: those before and after the large one are taken.
    outbox = Outbox(cluster, cluster.producer({"batch.num.messages": 1}))
    told: list[int] = []
    changes = [(b"before", b"1"), (b"large", bytes(5000)), (b"after", b"1")]
    outbox.send_all(COUNTS, 0, changes, told.append)
    outbox.after_all(lambda: told.append(-1))

    def refused() -> bool:
        try:
            outbox.poll()
        except NotDelivered:
            return True
        return False

    wait_until(refused, within=20)
    wait_until(lambda: keys_on_log(cluster) == [b"before", b"after"], within=20)
    assert refused()
    assert not told


def keys_on_log(cluster: Cluster) -> list[bytes | None]:
    return [message.key() for batch in read_now(cluster, COUNTS) for message in batch]


def is_ready(state: KeyedState) -> bool:
    try:
        state.require(0)
    except StateNotReady:
        return False
    return True
