"""SIGKILL at random moments, to any service, while files keep coming and changing; the seed is printed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker
from headrace.sandbox.s3 import S3Server
from tests.support.chaos import KILOBYTE, MEGABYTE, Plant
from tests.support.running import new_cluster

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


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_everything_at_once_loses_and_doubles_nothing(
    own_broker: EmbeddedBroker, s3: S3Server, bucket: str, prefix: str, tmp_path: Path, say: Callable[[str], None]
) -> None:
    """Services killed, put to sleep past their session and woken, the broker killed, all at random."""
    plant = Plant(new_cluster(own_broker.bootstrap, prefix), tmp_path, say, s3=s3, bucket=bucket)
    everything(plant)
    services = list(plant.services.values())
    asleep: dict[str, float] = {}
    faults: Counter[str] = Counter()
    try:
        for service in services:
            service.start()
        for number in range(50):
            plant.drop_small(plant.random.randrange(1, 6))
            plant.change_one()
            if number % 8 == 0:
                plant.drop(f"large/{number}", plant.random.randrange(MEGABYTE, 15 * MEGABYTE))
            time.sleep(plant.random.uniform(0.1, 1.5))
            for name in [name for name, until in asleep.items() if until < time.monotonic()]:
                del asleep[name]
                plant.services[name].wake()
            victim = plant.random.choice([service for service in services if service.name not in asleep])
            fault = plant.random.choices(["kill", "sleep", "broker"], [7, 2, 1])[0]
            if fault == "sleep" and len(asleep) == 2:
                fault = "kill"
            faults[fault] += 1
            if fault == "broker":
                own_broker.kill()
                own_broker.start()
            elif fault == "sleep" and victim.running:
                victim.pause()
                asleep[victim.name] = time.monotonic() + plant.random.uniform(1.0, 12.0)
            else:
                victim.kill()
                victim.start()
            plant.keep()
        for name in asleep:
            plant.services[name].wake()
        say(f"faults: {dict(faults)}")
        plant.finish(within=240)
    finally:
        plant.end()
