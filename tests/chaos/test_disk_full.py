"""Disks that fill up: who needs them waits, says so, and goes on when there is room."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker, free_port
from tests.support.chaos import MEGABYTE, Plant
from tests.support.disks import small_file_system
from tests.support.processes import Service
from tests.support.sent import versions
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

DISK = 24 * MEGABYTE


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    with small_file_system(tmp_path / "disk", DISK) as place:
        yield place


def test_a_full_disk_pauses_the_assembler_until_there_is_room(plant: Plant, small_disk: Path) -> None:
    plant.trees["main"] = small_disk / "tree"
    assembler = plant.assembler()
    assembler.start()
    plant.watch().start()
    plant.drop_small(5)
    wait_until(plant.balanced, within=30)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(DISK - 6 * MEGABYTE))
    plant.drop("large", 10 * MEGABYTE)
    plant.drop_small(10)
    wait_until(plant.announced, within=20)
    wait_until(lambda: assembler.said("No space left"), within=5)
    assert assembler.running
    ballast.unlink()
    room = time.monotonic()
    wait_until(plant.balanced, within=30)
    assert time.monotonic() - room < 30
    assert assembler.revivals == 0
    plant.finish()


def test_the_embedded_broker_takes_no_new_input_while_its_disk_is_nearly_full(tmp_path: Path) -> None:
    with small_file_system(tmp_path / "state", 500 * MEGABYTE) as disk:
        broker = EmbeddedBroker(disk / "broker", free_port())
        environment = {
            "HEADRACE_STATE": str(disk),
            "HEADRACE_BROKER__PORT": str(broker.port),
            "HEADRACE_BROKER__RESERVE": str(350 * MEGABYTE),
        }
        file = tmp_path / "file"
        file.write_bytes(bytes(MEGABYTE))
        broker.start()
        try:
            ballast = disk / "ballast"
            with ballast.open("wb") as out:
                os.posix_fallocate(out.fileno(), 0, 200 * MEGABYTE)
            upload = Service("upload", tmp_path, ["upload", file, "--source", "instrument"], environment)
            upload.start()
            wait_until(lambda: upload.said("nearly full"), within=20)
            assert upload.running
            ballast.unlink()
            wait_until(lambda: not upload.running, within=20)
            assert upload.said("there is room")
            (version,) = versions(broker.bootstrap, "headrace.").values()
            assert version.content == file.read_bytes()
        finally:
            broker.kill()
