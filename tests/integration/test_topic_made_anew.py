"""A topic that is deleted and created again begins at offset 0, before where its readers are."""

from __future__ import annotations

from pathlib import Path

import confluent_kafka
import pytest

from headrace.broker import EmbeddedBroker
from headrace.kafka.admin import create_missing
from headrace.kafka.clients import Cluster
from headrace.kafka.following import Follower
from headrace.stage.membership import LogCutOff
from headrace.topics import CHUNKS, JOBS, Topic
from headrace_files.assembler.service import Assembler
from headrace_files.assembler.settings import AssemblerSettings
from tests.support.feeding import FedFile, Feeder
from tests.support.running import RunningLoop, new_cluster, receipts_on_log, running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


def make_anew(cluster: Cluster, topic: Topic = CHUNKS) -> None:
    admin = cluster.admin()
    name = cluster.topic_name(topic)
    admin.delete_topics([name])[name].result(10)
    wait_until(lambda: name not in admin.list_topics(timeout=10).topics)
    wait_until(lambda: create_missing(cluster, [topic]))


def feed(cluster: Cluster, *files: FedFile) -> None:
    feeder = Feeder(cluster)
    for file in files:
        feeder.send(file, *file.frames())
    feeder.flush()


def delivered(cluster: Cluster) -> set[str]:
    return {ack.item for ack in receipts_on_log(cluster) if ack.covers[0].outcome == "delivered"}


def test_a_service_whose_topic_is_made_anew_under_it_starts_again_and_takes_it_from_its_first_message_on(
    broker: EmbeddedBroker, prefix: str, tmp_path: Path
) -> None:
    cluster = new_cluster(broker.bootstrap, prefix, partitions=1)
    old, new, later = FedFile(b"old", bytes(100_000)), FedFile(b"new", b"n" * 10_000), FedFile(b"later", b"l" * 10_000)
    feed(cluster, old)
    loop = RunningLoop(Assembler(AssemblerSettings(root=tmp_path)), cluster)
    wait_until(lambda: delivered(cluster) == {old.item}, within=20)
    make_anew(cluster)
    feed(cluster, new)
    # It goes on committing where it was, so that the offset stands for messages that are yet to come.
    wait_until(lambda: loop.failure, within=30)
    with pytest.raises(LogCutOff):
        loop.stop()
    with running(Assembler(AssemblerSettings(root=tmp_path)), cluster):
        wait_until(lambda: new.item in delivered(cluster), within=20)
        feed(cluster, later)
        wait_until(lambda: later.item in delivered(cluster), within=20)
    assert (tmp_path / "new").read_bytes() == new.content


def test_who_follows_a_topic_that_is_made_anew_gets_its_first_message(broker: EmbeddedBroker, prefix: str) -> None:
    cluster = new_cluster(broker.bootstrap, prefix, partitions=1)
    producer, name = cluster.producer(), cluster.topic_name(JOBS)

    def write(*keys: bytes) -> None:
        for key in keys:
            producer.produce(name, b"value", key, partition=0)
        producer.flush(10)

    write(b"1", b"2", b"3", b"4")
    follower = Follower(cluster, (JOBS,))
    keys: list[bytes | None] = []

    def got(*wanted: bytes) -> bool:
        keys.extend(message.key() for message in follower.poll(0.1))
        return keys == list(wanted)

    wait_until(lambda: got(b"1", b"2", b"3", b"4") and follower.caught_up, within=10)
    make_anew(cluster, JOBS)
    write(b"5", b"6")
    wait_until(lambda: got(b"1", b"2", b"3", b"4", b"5", b"6"), within=20)
    write(b"7")
    wait_until(lambda: got(b"1", b"2", b"3", b"4", b"5", b"6", b"7"), within=10)
    assert follower.positions == {(JOBS.name, 0): 3}
    follower.close()


def test_a_committed_offset_beyond_the_end_skips_nothing(broker: EmbeddedBroker, prefix: str, tmp_path: Path) -> None:
    cluster = new_cluster(broker.bootstrap, prefix, partitions=1)
    file = FedFile(b"file", b"f" * 10_000)
    feed(cluster, file)
    loop = RunningLoop(Assembler(AssemblerSettings(root=tmp_path)), cluster)
    wait_until(lambda: delivered(cluster) == {file.item}, within=20)
    loop.stop()
    consumer = cluster.consumer(loop.loop.group)
    place = confluent_kafka.TopicPartition(cluster.topic_name(CHUNKS), 0, 5_000, metadata="pos=5000 rcp=900")
    consumer.commit(offsets=[place], asynchronous=False)
    consumer.close()
    more = FedFile(b"more", b"m" * 10_000)
    feed(cluster, more)
    with running(Assembler(AssemblerSettings(root=tmp_path)), cluster):
        wait_until(lambda: more.item in delivered(cluster), within=20)
    assert len(receipts_on_log(cluster)) == 2, "what was done before is not done again"
