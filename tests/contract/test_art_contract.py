"""The stages that speak to ART keep the contract of stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker
from headrace.events import UploadAck
from headrace.kafka.admin import create_missing
from headrace.kafka.clients import Cluster
from headrace.stage.contract import Stage
from headrace.state.keyed import KeyedState
from headrace_art.accounting import BATCH
from headrace_art.entities.service import Entities
from headrace_art.entities.settings import EntitiesSettings
from headrace_art.students.service import Students
from headrace_art.students.settings import StudentsSettings
from headrace_art.topics import TOPICS
from tests.contract.stage_contract import Fed, StageContract
from tests.support.art_loading import ServedArt, served_art
from tests.support.art_records import DATASETS, Published, confirmed_school, district, student
from tests.support.feeding import Feeder
from tests.support.running import new_cluster, running
from tests.support.waiting import wait_until


class ArtStageContract(StageContract):
    """What both have in common: an ART of their own."""

    @pytest.fixture(autouse=True)
    def _art(self) -> Iterator[None]:
        with served_art() as self.art:
            yield

    art: ServedArt

    @pytest.fixture
    def cluster(self, broker: EmbeddedBroker, prefix: str) -> Cluster:
        self.made = new_cluster(broker.bootstrap, prefix)
        create_missing(self.made, [*TOPICS, *(dataset.topic for dataset in DATASETS.values())])
        return self.made


class TestStudents(ArtStageContract):
    @pytest.fixture
    def feeder(self, cluster: Cluster) -> Feeder:
        feeder = Feeder(cluster)
        topic, key, value, partition = confirmed_school()
        feeder.raw(topic, value, key, partition)
        feeder.flush()
        return feeder

    def receipts(self, cluster: Cluster) -> list[UploadAck]:
        # Those of batches tell of students that are told of again when their file is closed.
        return [ack for ack in super().receipts(cluster) if not ack.item.startswith(BATCH)]

    def stage(self, place: Path) -> Stage:
        return Students(
            StudentsSettings(linger=0.1), self.art.settings(), self.made, DATASETS["art_students"], place
        )  # fmt: skip

    def good(self, feeder: Feeder, number: int) -> Fed:
        del feeder
        rows = [student(f"{number:05}{row}") for row in range(3)]
        published = Published(f"file-{number}", "art_students", rows, number % 3)
        return Fed(published.item, published.whole())

    def test_a_state_that_fails_once_loses_no_row(
        self, cluster: Cluster, feeder: Feeder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        items = self.feed(feeder, 2)
        get, failures = KeyedState.get, iter(range(1))

        def failing(state: KeyedState, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
            if next(failures, None) is not None:
                raise OSError("a test says so")
            return get(state, partition, keys)

        monkeypatch.setattr(KeyedState, "get", failing)
        with running(self.stage(tmp_path), cluster):
            wait_until(lambda: len(self.delivered(cluster)) == 2, within=20)
        assert self.delivered(cluster) == Counter({fed.item: 1 for fed in items})
        assert len(self.art.table("students")) == 6

    def effects(self, place: Path) -> Mapping[str, Hashable]:
        del place
        saved: dict[str, list[tuple[str, int]]] = {}
        again = self.art.served.world.students.saved_again
        for each in self.art.table("students"):
            saved.setdefault(each["ssid"][:5], []).append((each["ssid"], again["CA", each["ssid"]]))
        return {number: tuple(sorted(found)) for number, found in saved.items()}


class TestEntities(ArtStageContract):
    def delivered(self, cluster: Cluster) -> Counter[str]:
        # A copy that takes over a file in mid-work finds at ART what the other one has created.
        outcomes = {"delivered", "unchanged"}
        return Counter(ack.item for ack in self.receipts(cluster) if ack.covers[0].outcome in outcomes)

    def stage(self, place: Path) -> Stage:
        del place
        return Entities(EntitiesSettings(), self.art.settings(), self.made, DATASETS["art_schools"])

    def good(self, feeder: Feeder, number: int) -> Fed:
        del feeder
        published = Published(f"file-{number}", "art_schools", [district(number)], number % 3)
        return Fed(published.item, published.whole())

    def effects(self, place: Path) -> Mapping[str, Hashable]:
        del place
        kinds = self.art.served.world.entities.kinds
        districts = {each.entity_id: each.id for each in kinds["district"].values()}
        return {each.entity_id or "": (each.id, districts[each.entity_id]) for each in kinds["institution"].values()}
