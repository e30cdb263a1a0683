"""Records as a destination: `verify --deep` and `replay` look whether the lines of a file are still on their topic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

from headrace.broker import EmbeddedBroker
from headrace.datasets.catalogue import Dataset, Datasets
from headrace.kafka.admin import create_missing
from headrace.kafka.clients import Cluster
from headrace.kafka.raw import RawMessage
from headrace.kafka.reading import read_now
from headrace.proof.groups import positions
from headrace_files.csv_fanout.service import CsvFanout
from headrace_files.csv_fanout.settings import CsvFanoutSettings
from tests.support import records
from tests.support.dead import headrace
from tests.support.feeding import FedFile, Feeder
from tests.support.feeds import declare
from tests.support.running import new_cluster, receipts_on_log, running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

ROWS = 300
CLEAN = FedFile(b"clean", b"a,b\n" + b"".join(b"%d,x\n" % row for row in range(ROWS)), dataset="feed")
MIXED = FedFile(
    b"mixed",
    b"a,b\n" + b"".join(b"%d,y\n" % row if row % 100 else b"%d\n" % row for row in range(ROWS)),
    dataset="feed",
)


class World:
    """Two files that were made into records: one clean, one with three bad rows."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path) -> None:
        datasets = folder / "datasets"
        declare(datasets, "feed", "ab", rules="bad_rows = 10", extra='quoting = "none"')
        self.dataset: Dataset = Datasets(datasets)["feed"]
        self.cluster: Cluster = new_cluster(bootstrap, prefix)
        create_missing(self.cluster, [self.dataset.topic])
        self.environment = {
            "HEADRACE_STATE": str(folder / "state"),
            "HEADRACE_DATASETS__FOLDER": str(datasets),
            "HEADRACE_CSV_FANOUT__SPOOL": str(folder / "spool"),
            "HEADRACE_CSV_FANOUT__SINK": "test",
        }
        feeder = Feeder(self.cluster)
        for file in (CLEAN, MIXED):
            feeder.send(file, *file.frames())
            feeder.announce(file)
        feeder.flush()
        with running(
            CsvFanout(CsvFanoutSettings(spool=folder / "spool"), self.cluster, Datasets(datasets)), self.cluster
        ):
            wait_until(lambda: len(receipts_on_log(self.cluster)) == 2, within=30)

    def verify(self) -> tuple[int, dict[str, Any], dict[str, Any]]:
        """Exit code of `verify --deep`, what it found of each file, and the summary."""
        code, output = headrace(self.cluster, "verify", "--deep", "--json", environment=self.environment)
        *files, summary = [json.loads(line) for line in output.splitlines()]
        return code, {each["path"]: next(iter(each["groups"].values())) for each in files}, summary

    def replay(self, *more: str) -> tuple[int, dict[str, Any]]:
        """Exit code of a replay of the fan-out, and what it says."""
        command = ("replay", "--service", "csv_fanout", *more, "--json")
        code, output = headrace(self.cluster, *command, environment=self.environment)
        return code, json.loads(output[output.index("{\n") if "{\n" in output else output.index("{") :])["services"][0]

    def on_topic(self) -> list[RawMessage]:
        return [message for batch in read_now(self.cluster, self.dataset.topic) for message in batch]

    def written(self) -> object:
        """What changes with every message that is written, and every offset that is committed."""
        return len(self.on_topic()), len(receipts_on_log(self.cluster)), positions(self.cluster)

    def empty_topic(self) -> None:
        """Lose the topic, as nobody should, and make it anew."""
        name, admin = self.cluster.topic_name(self.dataset.topic), self.cluster.admin()
        admin.delete_topics([name])[name].result(10)
        wait_until(lambda: name not in admin.list_topics(timeout=10).topics)
        create_missing(self.cluster, [self.dataset.topic])

    def oracle(self) -> list[str]:
        contents = {file.item: file.content for file in (CLEAN, MIXED)}
        cluster = self.cluster
        return records.check(cluster.bootstrap, cluster.settings.prefix, "feed", self.dataset.schema, contents)


@pytest.fixture
def world(broker: EmbeddedBroker, prefix: str, tmp_path: Path) -> World:
    return World(broker.bootstrap, prefix, tmp_path)


def test_records_that_are_all_there_are_intact_and_a_replay_writes_nothing(world: World) -> None:
    assert world.oracle() == []
    before = world.written()
    code, found, summary = world.verify()
    assert code == 3
    assert summary["destinations"] == {"intact": 2}
    assert {name: each["destination"] for name, each in found.items()} == {"clean": "intact", "mixed": "intact"}
    code, told = world.replay()
    assert (code, told["again"], told["kept"]) == (0, 0, {"intact": 1, "dead_lettered": 1})
    assert world.written() == before


def test_lines_that_are_lost_are_counted_and_the_file_is_made_into_records_again(world: World) -> None:
    kept = [each for each in world.on_topic() if b"\x02x" in (each.value() or b"") or len(each.key() or b"") == 32]
    world.empty_topic()
    feeder = Feeder(world.cluster)
    for message in kept[1:]:
        feeder.raw(world.dataset.topic, message.value() or b"", message.key(), message.partition())
    feeder.flush()
    code, found, summary = world.verify()
    assert (code, summary["destinations"]) == (1, {"differs": 1, "gone": 1})
    assert found["clean"]["destination_reason"].startswith(f"1 of {ROWS} records are not there, first that of line ")
    assert found["mixed"]["destination_reason"] == f"none of {ROWS - 3} records is there"
    code, told = world.replay()
    assert (code, told["again"], told["why"]) == (3, 2, {"differs": 1, "gone": 1})
    assert (world.verify()[0], world.verify()[2]["destinations"]) == (3, {"intact": 2})
    assert world.replay()[1]["again"] == 0


def test_records_that_have_expired_are_said_to_be_and_made_again_only_when_the_file_is_named(world: World) -> None:
    wire, admin = world.cluster.topic_name(world.dataset.topic), world.cluster.admin()
    everything = [confluent_kafka.TopicPartition(wire, number, -1) for number in range(3)]
    for deleted in admin.delete_records(everything).values():
        deleted.result(30)
    code, found, summary = world.verify()
    assert (code, summary["destinations"]) == (3, {"expired": 2})
    assert found["clean"]["destination_reason"] == f"{ROWS} of {ROWS} records are older than what their topic keeps"
    code, told = world.replay()
    assert (code, told["again"], told["kept"]) == (0, 0, {"records_expired": 1, "dead_lettered": 1})
    assert "older than what their topic keeps" in told["problems"][0]
    code, told = world.replay("--file", "clean")
    assert (code, told["why"]) == (0, {"expired": 1})
    assert world.verify()[2]["destinations"] == {"expired": 1, "intact": 1}
