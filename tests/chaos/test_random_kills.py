"""SIGKILL at random moments, to any service, while files keep coming and changing; the seed is printed."""

from __future__ import annotations

import time

import pytest

from tests.support.chaos import KILOBYTE, MEGABYTE, Plant

pytestmark = [pytest.mark.kafka, pytest.mark.s3]


def work_and_kill(plant: Plant, kills: int) -> None:
    """Kill one service after another, each some moments after the last, and start it again."""
    services = list(plant.services.values())
    for service in services:
        service.start()
    for number in range(kills):
        plant.drop_small(plant.random.randrange(1, 6))
        plant.change_one()
        if number % 5 == 0:
            plant.drop(f"large/{number}", plant.random.randrange(500 * KILOBYTE, 20 * MEGABYTE))
        # A random moment is the point: there is no condition to wait for.
        time.sleep(plant.random.uniform(0.1, 1.8))
        victim = plant.random.choice(services)
        victim.kill()
        time.sleep(plant.random.choice([0.0, 0.0, 0.5]))
        victim.start()
        plant.keep()


def everything(plant: Plant) -> None:
    plant.watch()
    plant.assembler("assembler 1")
    plant.assembler("assembler 2")
    plant.assembler("other site", sink="other")
    plant.archiver("archiver 1")


def test_a_few_kills_at_random_lose_and_double_nothing(archive_plant: Plant) -> None:
    everything(archive_plant)
    work_and_kill(archive_plant, 6)
    archive_plant.finish(within=90)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_many_kills_at_random_lose_and_double_nothing(archive_plant: Plant) -> None:
    everything(archive_plant)
    archive_plant.archiver("archiver 2")
    work_and_kill(archive_plant, 60)
    assert archive_plant.kills >= 50
    archive_plant.finish(within=180)
