"""The example stage of the how-to keeps the contract, without a line of the spine changed for it."""

from __future__ import annotations

import importlib.util
from collections.abc import Hashable, Mapping
from pathlib import Path
from types import ModuleType

from headrace.codec import avro
from headrace.stage.contract import Stage
from headrace.topics import FILES
from tests.contract.stage_contract import Fed, StageContract
from tests.support.feeding import FedFile, Feeder

EXAMPLE = Path(__file__).parents[2] / "docs/how-to/write-a-stage/catalogue.py"


def load_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("catalogue", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestCatalogue(StageContract):
    def stage(self, place: Path) -> Stage:
        stage: Stage = load_example().Catalogue(place)
        return stage

    def good(self, feeder: Feeder, number: int) -> Fed:
        file = FedFile(f"file-{number}".encode(), b"x" * number, inode=number)
        partition = feeder.partition(file)
        return Fed(file.item, [(FILES, file.key, avro.encode(file.event(partition, 0, 0)), partition)])

    def effects(self, place: Path) -> Mapping[str, Hashable]:
        return {entry.name: entry.stat().st_ino for entry in place.glob("*.json")}


def test_the_example_stays_under_a_hundred_lines() -> None:
    assert len(EXAMPLE.read_text("utf-8").splitlines()) < 100
