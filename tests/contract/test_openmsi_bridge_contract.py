"""The bridge keeps the contract of stages."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker
from headrace.chunks.frames import Close, Whole, decode
from headrace.kafka.clients import Cluster
from headrace.kafka.reading import read_now
from headrace.stage.contract import Stage
from headrace.topics import CHUNKS
from headrace_files.openmsi.layout import decode as decode_chunk
from headrace_files.openmsi_bridge.bridging import Identity
from headrace_files.openmsi_bridge.service import OpenmsiBridge
from headrace_files.openmsi_bridge.settings import OpenmsiBridgeSettings
from tests.contract.stage_contract import Fed, StageContract
from tests.support.feeding import Feeder
from tests.support.openmsi import TheirFile, their_topic
from tests.support.running import new_cluster


class TestOpenmsiBridge(StageContract):
    @pytest.fixture
    def cluster(self, broker: EmbeddedBroker, prefix: str) -> Cluster:
        self.made = new_cluster(broker.bootstrap, prefix)
        self.topic = their_topic(self.made)
        return self.made

    def stage(self, place: Path) -> Stage:
        return OpenmsiBridge(OpenmsiBridgeSettings(topic=self.topic.name, source="lab"), self.made)

    def good(self, feeder: Feeder, number: int) -> Fed:
        file = TheirFile(f"file-{number}.dat", f"content {number}".encode(), folder="shots")
        key, value = file.messages()[0]
        item = Identity.of("lab", decode_chunk(value)).item(1)
        return Fed(item, [(self.topic, key, value, number % 3)])

    def effects(self, place: Path) -> Mapping[str, Hashable]:
        found: dict[str, Hashable] = {}
        for batch in read_now(self.made, CHUNKS):
            for message in batch:
                frame = decode(message.value() or b"")
                if isinstance(frame, Whole | Close):
                    key = (message.key() or b"").decode()
                    found[key] = (found.get(key, ()), message.offset())
        return found
