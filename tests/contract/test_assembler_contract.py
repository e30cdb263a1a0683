"""The assembler keeps the contract of stages."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path

from headrace.stage.contract import Stage
from headrace.topics import CHUNKS
from headrace_files.assembler.service import Assembler
from headrace_files.assembler.settings import AssemblerSettings
from tests.contract.stage_contract import Fed, StageContract
from tests.support.feeding import FedFile, Feeder


class TestAssembler(StageContract):
    def stage(self, place: Path) -> Stage:
        return Assembler(AssemblerSettings(root=place))

    def good(self, feeder: Feeder, number: int) -> Fed:
        file = FedFile(f"file-{number}".encode(), bytes([number % 251]) * 10_000, inode=number)
        partition = feeder.partition(file)
        values = [file.whole()] if number % 2 else file.frames()
        return Fed(file.item, [(CHUNKS, file.key, value, partition) for value in values])

    def effects(self, place: Path) -> Mapping[str, Hashable]:
        return {entry.name: entry.stat().st_ino for entry in place.iterdir() if entry.is_file()}
