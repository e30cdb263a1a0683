"""Faults other than a kill of our own: a broker that dies, a process that sleeps, partitions that move, lost chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import confluent_kafka
import pytest

from headrace.broker import EmbeddedBroker
from headrace.sandbox.s3 import S3Server
from headrace.topics import CHUNKS
from tests.support import oracle
from tests.support.chaos import MEGABYTE, Plant
from tests.support.running import new_cluster
from tests.support.s3_faults import FaultyS3, Kind
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def fragile_plant(
    own_broker: EmbeddedBroker, prefix: str, tmp_path: Path, say: Callable[[str], None]
) -> Iterator[Plant]:
    """A plant whose broker may be killed."""
    plant = Plant(new_cluster(own_broker.bootstrap, prefix), tmp_path, say)
    yield plant
    plant.end()


def test_a_broker_that_is_killed_and_comes_back_is_waited_for(fragile_plant: Plant, own_broker: EmbeddedBroker) -> None:
    plant = fragile_plant
    plant.watch().start()
    plant.assembler("assembler 1").start()
    plant.assembler("assembler 2").start()
    plant.drop_small(10)
    wait_until(lambda: plant.received() > 0, within=30)
    for number in range(2):
        plant.drop(f"large/{number}", 20 * MEGABYTE)
        plant.drop_small(10)
        seen = wait_until(plant.chunk_messages, within=20)
        wait_until(lambda seen=seen: plant.chunk_messages() > seen, within=20)
        own_broker.kill()
        plant.drop_small(5)
        own_broker.start()
        plant.change_one()
    plant.finish(within=90)


def test_a_process_that_slept_past_its_session_does_no_harm_when_it_wakes(plant: Plant) -> None:
    plant.watch().start()
    sleeper, other = plant.assembler("assembler 1"), plant.assembler("assembler 2")
    sleeper.start()
    plant.drop_small(20)
    plant.drop("large", 30 * MEGABYTE)
    wait_until(lambda: plant.received() > 3, within=30)
    sleeper.pause()
    # Newer versions of what the sleeper may be in the middle of: it must not put the old ones back.
    plant.drop("large", 10 * MEGABYTE)
    for _ in range(5):
        plant.change_one()
    other.start()
    wait_until(plant.balanced, within=60)
    sleeper.wake()
    plant.drop_small(10)
    plant.change_one()
    plant.finish()


def test_copies_that_come_and_go_under_load_share_the_work(plant: Plant) -> None:
    plant.watch().start()
    copies = [plant.assembler(f"assembler {number}") for number in (1, 2, 3)]
    copies[0].start()
    plant.drop("large/0", 30 * MEGABYTE)
    for number, copy in enumerate(copies[1:], 1):
        plant.drop_small(10)
        copy.start()
        plant.drop(f"large/{number}", 15 * MEGABYTE)
        wait_until(lambda copy=copy: copy.said("partitions assigned"), within=30)
    plant.drop_small(10)
    copies[2].kill()
    plant.drop_small(10)
    copies[1].stop()
    plant.drop("large/last", 15 * MEGABYTE)
    plant.change_one()
    plant.finish(within=90)


def test_files_whose_chunks_expired_unread_are_sent_again(plant: Plant) -> None:
    watch, assembler = plant.watch(), plant.assembler()
    watch.start()
    assembler.start()
    plant.drop_small(10)
    wait_until(plant.balanced, within=30)
    assembler.stop()
    before = oracle.files_below(plant.source).keys()
    plant.drop_small(10)
    plant.drop("large", 12 * MEGABYTE)
    wait_until(plant.announced, within=30)
    admin = plant.cluster.admin()
    wire = plant.cluster.topic_name(CHUNKS)
    places = [confluent_kafka.TopicPartition(wire, number, -1) for number in range(plant.cluster.partitions(CHUNKS))]
    for deleted in admin.delete_records(places).values():
        deleted.result(30)
    assembler.start()
    plant.finish(expired=before)
    _, summary = plant.verify("--json")
    (book,) = summary["groups"].values()
    assert book["failed"] == book["settled"] >= 11


@pytest.mark.s3
def test_an_object_store_that_fails_in_every_way_gets_everything_once(archive_plant: Plant, s3: S3Server) -> None:
    plant = archive_plant
    kinds: list[Kind] = ["500", "503", "slow", "reset", "lost-answer"]
    with FaultyS3(s3.port) as store:
        plant.watch().start()
        archiver = plant.archiver(endpoint=store.endpoint)
        archiver.start()
        for kind in kinds * 2:
            fault = store.fail(kind, times=plant.random.randrange(1, 6))
            plant.drop_small(5)
            plant.drop(f"large/{plant.files_written}", plant.random.randrange(12, 20) * MEGABYTE)
            wait_until(lambda fault=fault: fault.hits, within=30)
        archiver.kill()
        store.fail("503")
        archiver.start()
        plant.drop_small(5)
        wait_until(lambda: len(store.requests) and archiver.said("unwell"), within=30)
        store.heal()
        plant.finish(within=90)
