"""A cluster of three: the leader dies under load, and comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.kafka.admin import create_missing
from headrace.topics import CHUNKS, SPINE
from tests.support.chaos import MEGABYTE, Plant
from tests.support.trio import Trio
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.long]


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Trio]:
    trio = Trio(tmp_path / "brokers")
    trio.start()
    yield trio
    trio.end()


def test_leaders_that_are_killed_under_load_cost_nothing(
    trio: Trio, prefix: str, tmp_path: Path, say: Callable[[str], None]
) -> None:
    cluster = trio.cluster(prefix)
    create_missing(cluster, SPINE)
    plant = Plant(cluster, tmp_path / "plant", say)
    try:
        plant.watch().start()
        plant.assembler("one").start()
        plant.assembler("two").start()
        for round_number in range(3):
            plant.drop_small(30)
            plant.drop(f"large/{round_number}", 20 * MEGABYTE)
            leader = trio.leader(cluster.topic_name(CHUNKS), round_number)
            trio.kill(leader)
            say(f"killed node {leader}, which led partition {round_number}")
            plant.drop_small(30)
            wait_until(plant.announced, within=60)
            trio.start(leader)
        plant.finish(within=90)
    except BaseException:
        say(plant.tails())
        raise
    finally:
        plant.end()
