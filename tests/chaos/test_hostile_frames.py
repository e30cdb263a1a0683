"""What other writers may put on the chunks topic: doubles, damage, names that lead out of the tree, garbage."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgpack
import pytest
from confluent_kafka import Message

from headrace.topics import CHUNKS
from tests.support import oracle
from tests.support.chaos import MEGABYTE, Plant
from tests.support.feeding import FedFile, Feeder
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

HOSTILE_NAMES = [
    b"/etc/cron.d/owned",
    b"../outside",
    b"a/../../outside",
    b".headrace/partial",
    b"nul\0byte",
    b"n" * 300,
    b"/".join([b"deep"] * 1200),
    b"a//b",
    b"COM1.txt",
]


def on_the_log(plant: Plant) -> Iterator[Message]:
    return oracle.messages(plant.cluster.bootstrap, plant.cluster.topic_name(CHUNKS))


def test_every_message_twice_more_in_any_order_changes_nothing(plant: Plant) -> None:
    plant.watch().start()
    assembler = plant.assembler()
    assembler.start()
    plant.drop_small(20)
    plant.drop("large", 8 * MEGABYTE)
    wait_until(plant.announced, within=30)
    feeder = Feeder(plant.cluster)
    for _ in range(2):
        copies = list(on_the_log(plant))
        plant.random.shuffle(copies)
        for copy in copies:
            feeder.raw(CHUNKS, copy.value(), copy.key(), copy.partition())
        feeder.flush()
        plant.drop_small(5)
        assembler.kill()
        assembler.start()
    plant.finish()


def test_names_that_lead_out_of_the_tree_and_bytes_that_are_no_frames_are_dead_letters(plant: Plant) -> None:
    plant.watch().start()
    plant.assembler().start()
    plant.drop_small(10)
    feeder = Feeder(plant.cluster)
    for name in HOSTILE_NAMES:
        plant.refused.add(name)
        for content in (b"owned", bytes(9000)):
            file = FedFile(name, content, source="intruder")
            feeder.send(file, *(file.frames() if len(content) > 4096 else [file.whole()]))
    good = FedFile(b"never", bytes(9000), source="intruder")
    first, *_ = good.frames()
    garbage = [
        b"",
        b"\xc1",
        os.urandom(1000),
        first[:-7],
        first + b"\x00",
        msgpack.packb({"v": 1, "k": "open"}),
        msgpack.packb({"v": 2, "k": "data", "i": 0, "off": 0, "b": b"x"}),
        msgpack.packb({"v": 1, "k": "data", "i": 0, "off": -1, "b": b"x"}),
        msgpack.packb({"v": 1, "k": "data", "i": 0, "off": 2**63, "b": b"x"}),
        msgpack.packb({"v": 1, "k": "what"}),
        msgpack.packb([1] * 10),
        b"\x81" * 5000,
    ]
    keys = [good.key, None, b"", b"/", b"%zz/%", b"k" * 5000, b"\xff\xfe", good.key + b"/more"]
    for number, value in enumerate(garbage):
        for key in keys:
            feeder.raw(CHUNKS, value, key, number % feeder.partitions)
    feeder.flush()
    plant.drop_small(10)
    plant.change_one()
    truth = plant.finish(exit_codes=(3,))
    assert {version.path for version in truth.whole.values()} > set(HOSTILE_NAMES)
    assert not (plant.folder / "outside").exists()
    _, summary = plant.verify("--json")
    (book,) = summary["groups"].values()
    assert book["dead_lettered"] >= 2 * len(HOSTILE_NAMES)
    assert book["failed"] == book["missing"] == book["open"] == 0


def test_a_file_whose_frames_are_tampered_with_on_the_way_is_sent_again(plant: Plant) -> None:
    watch = plant.watch()
    watch.start()
    plant.assembler().start()
    plant.drop_small(5)
    wait_until(plant.announced, within=30)
    size = 60 * MEGABYTE
    plant.drop("victim", size)

    def under_way() -> bytes | None:
        for message in on_the_log(plant):
            frame = msgpack.unpackb(message.value() or b"")
            if frame["k"] == "open" and frame["path"] == b"victim":
                return message.key()
        return None

    key = wait_until(under_way, within=20, every=0.01)
    watch.pause()
    sent = {frame["off"] for frame in frames_of(plant, key) if frame["k"] == "data"}
    ahead = [offset for offset in range(0, size, 64 * 1024) if offset not in sent]
    assert ahead, "the file was sent before it could be tampered with"
    feeder = Feeder(plant.cluster)
    path_id = key.decode().split("/")[0]
    for offset in ahead[-3:]:
        forged = {"v": 1, "k": "data", "i": offset // (64 * 1024), "off": offset, "b": os.urandom(64 * 1024)}
        feeder.raw(CHUNKS, msgpack.packb(forged), key, plant.partition(path_id))
    feeder.flush()
    watch.wake()
    plant.finish(within=90)
    _, summary = plant.verify("--json")
    (book,) = summary["groups"].values()
    assert book["failed"] == book["settled"] == 1


def frames_of(plant: Plant, key: bytes) -> Iterator[dict[str, object]]:
    for message in on_the_log(plant):
        if message.key() == key:
            yield msgpack.unpackb(message.value() or b"")
