"""The fan-out keeps the contract of stages."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker
from headrace.datasets.catalogue import Datasets
from headrace.kafka.admin import create_missing
from headrace.kafka.clients import Cluster
from headrace.stage.contract import Stage
from headrace.topics import CHUNKS
from headrace_files.csv_fanout.service import CsvFanout
from headrace_files.csv_fanout.settings import CsvFanoutSettings
from tests.contract.stage_contract import Fed, StageContract
from tests.support.feeding import FedFile, Feeder
from tests.support.records import on_the_log
from tests.support.running import new_cluster

DATASETS = Datasets()


class TestCsvFanout(StageContract):
    @pytest.fixture
    def cluster(self, broker: EmbeddedBroker, prefix: str) -> Cluster:
        self.made = new_cluster(broker.bootstrap, prefix)
        create_missing(self.made, [dataset.topic for dataset in DATASETS.values()])
        return self.made

    def stage(self, place: Path) -> Stage:
        return CsvFanout(CsvFanoutSettings(spool=place), self.made, DATASETS)

    def good(self, feeder: Feeder, number: int) -> Fed:
        rows = "".join(f"s{number},{row},2026-01-01T00:00:00Z,1.5\n" for row in range(200))
        content = f"station,sensor,time,value\n{rows}".encode()
        file = FedFile(f"file-{number}".encode(), content, inode=number, dataset="readings")
        partition = feeder.partition(file)
        values = [file.whole()] if number % 2 else file.frames()
        return Fed(file.item, [(CHUNKS, file.key, value, partition) for value in values])

    def effects(self, place: Path) -> Mapping[str, Hashable]:
        schema = DATASETS["readings"].schema
        found = on_the_log(self.made.bootstrap, self.made.settings.prefix, "readings", schema)
        return {file: (len(lines.records), lines.repeats) for file, lines in found.items()}
