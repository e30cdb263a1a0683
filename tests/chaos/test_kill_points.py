"""SIGKILL at every named point: between any two steps that belong together, nothing is lost and nothing doubled."""

from __future__ import annotations

import pytest

from tests.support.chaos import MEGABYTE, Plant
from tests.support.processes import Service
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka]

SENDER = (
    "sender.after-open",
    "sender.between-frames",
    "sender.between-frames:100",
    "sender.after-progress-event",
    "sender.after-last-frame-before-announce",
    "sender.after-last-frame-before-announce:7",
)
LOOP = ("loop.after-effect-before-receipt", "loop.after-effect-before-receipt:9", "loop.after-receipt-before-commit")
ASSEMBLER = (
    *LOOP,
    "assembler.between-fsync-and-rename",
    "assembler.between-fsync-and-rename:3",
    "assembler.after-rename-before-receipt",
    "assembler.after-rename-before-receipt:3",
)
ARCHIVER = (
    *LOOP,
    "archiver.between-parts",
    "archiver.between-parts:2",
    "archiver.before-complete",
    "archiver.after-effect-before-receipt",
    "archiver.after-effect-before-receipt:9",
)


def kill_at_each(plant: Plant, service: Service, points: tuple[str, ...], large: int) -> None:
    """Kill the service at each point in turn, with new work for it each time."""
    for point in points:
        plant.drop_small(10)
        plant.drop(f"large/{point}", large)
        service.start(kill_point=point)
        service.await_point(meanwhile=lambda: plant.drop_small(1))
        service.kill()
        plant.change_one()
    service.start()


def test_a_sender_killed_at_each_point_sends_everything(plant: Plant) -> None:
    plant.assembler().start()
    kill_at_each(plant, plant.watch(), SENDER, 8 * MEGABYTE)
    plant.finish()


def test_an_assembler_killed_at_each_point_rebuilds_everything(plant: Plant) -> None:
    plant.watch().start()
    kill_at_each(plant, plant.assembler(), ASSEMBLER, 3 * MEGABYTE)
    plant.finish()


@pytest.mark.s3
def test_an_archiver_killed_at_each_point_stores_everything_once(archive_plant: Plant) -> None:
    archive_plant.watch().start()
    kill_at_each(archive_plant, archive_plant.archiver(), ARCHIVER, 18 * MEGABYTE)
    archive_plant.finish()


@pytest.mark.parametrize("kind", ["assembler", pytest.param("archiver", marks=pytest.mark.s3)])
def test_a_copy_killed_while_its_partitions_go_to_another(archive_plant: Plant, kind: str) -> None:
    plant = archive_plant
    make = plant.assembler if kind == "assembler" else plant.archiver
    first, second = make(f"{kind} 1"), make(f"{kind} 2")
    plant.watch().start()
    plant.drop_small(10)
    plant.drop("large", 12 * MEGABYTE)
    first.start(kill_point="loop.during-revoke")
    wait_until(lambda: plant.received() > 5, within=20)
    second.start()
    first.await_point(meanwhile=lambda: plant.drop_small(1))
    first.kill()
    plant.drop("another", 12 * MEGABYTE)
    plant.change_one()
    plant.finish()


@pytest.mark.long
def test_a_copy_that_is_back_at_once_after_it_was_killed_giving_partitions_away_leaves_none_without_an_owner(
    plant: Plant,
) -> None:
    first, second = plant.assembler("assembler 1"), plant.assembler("assembler 2")
    plant.watch().start()
    plant.drop_small(10)
    first.start(kill_point="loop.during-revoke")
    wait_until(lambda: plant.received() > 5, within=20)
    second.start()
    first.await_point(meanwhile=lambda: plant.drop_small(1))
    first.kill()
    first.start()
    plant.drop_small(40)
    plant.finish(within=90)
