"""Frames that Kafka deleted before they were read: reported for every file among them, never skipped in silence."""

from __future__ import annotations

from pathlib import Path

import confluent_kafka
import pytest

from headrace.broker import EmbeddedBroker
from headrace.kafka.clients import Cluster
from headrace.topics import CHUNKS
from headrace_files.assembler.service import Assembler
from headrace_files.assembler.settings import AssemblerSettings
from tests.support.feeding import FedFile, Feeder
from tests.support.running import new_cluster, receipts_on_log, running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


def delete_before(cluster: Cluster, partition: int, offset: int) -> None:
    """Delete records of the chunks topic, as retention does."""
    part = confluent_kafka.TopicPartition(cluster.topic_name(CHUNKS), partition, offset)
    admin = cluster.admin()
    for future in admin.delete_records([part]).values():
        future.result(10)


def outcomes(cluster: Cluster) -> dict[str, tuple[str, str | None]]:
    return {ack.item: (ack.covers[0].outcome, ack.covers[0].code) for ack in receipts_on_log(cluster)}


def test_a_file_whose_frames_expired_unread_is_failed_and_the_rest_arrives(
    broker: EmbeddedBroker, prefix: str, tmp_path: Path
) -> None:
    cluster = new_cluster(broker.bootstrap, prefix, partitions=1)
    feeder = Feeder(cluster)
    read, gone, half, fine = (FedFile(name, name * 3000) for name in (b"read", b"gone", b"half", b"fine"))
    feeder.send(read, *read.frames())
    feeder.announce(read)
    with running(Assembler(AssemblerSettings(root=tmp_path)), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 1, within=20)
    for file in (gone, half, fine):
        feeder.send(file, *file.frames())
        feeder.announce(file)
    delete_before(cluster, 0, feeder.offsets[half.file][1])
    with running(Assembler(AssemblerSettings(root=tmp_path)), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 4, within=30)
    assert outcomes(cluster) == {
        read.item: ("delivered", None),
        gone.item: ("failed", "expired"),
        half.item: ("failed", "expired"),
        fine.item: ("delivered", None),
    }
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.is_file()) == ["fine", "read"]


def test_frames_that_expire_while_a_consumer_is_behind_are_reported_as_well(
    broker: EmbeddedBroker, prefix: str, tmp_path: Path
) -> None:
    cluster = new_cluster(broker.bootstrap, prefix, partitions=1)
    feeder = Feeder(cluster)
    stage = Assembler(AssemblerSettings(root=tmp_path))
    with running(stage, cluster, properties={"queued.max.messages.kbytes": 1}) as loop:
        first = FedFile(b"first", b"x" * 10)
        feeder.send(first, first.whole())
        feeder.announce(first)
        wait_until(lambda: len(receipts_on_log(cluster)) == 1, within=20)
        partitions = list(loop.loop._tracks)
        loop.loop.context.pause(partitions, 3.0, "a test makes it late")
        files = [FedFile(f"late-{number}".encode(), bytes([number]) * 3000) for number in range(20)]
        for file in files:
            feeder.send(file, file.whole())
            feeder.announce(file)
        delete_before(cluster, 0, feeder.offsets[files[15].file][0])
        wait_until(lambda: len(receipts_on_log(cluster)) == 21, within=30)
    found = outcomes(cluster)
    assert [found[file.item] for file in files] == [("failed", "expired")] * 15 + [("delivered", None)] * 5
