"""A disk that fills up: the assembler waits, says so, and goes on when there is room."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chaos import MEGABYTE, Plant
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system"),
]

DISK = 24 * MEGABYTE


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


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
