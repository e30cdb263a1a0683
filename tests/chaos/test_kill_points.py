"""SIGKILL at every named point: between any two steps that belong together, nothing is lost and nothing doubled."""

from __future__ import annotations

import pytest

from tests.support.chaos import MEGABYTE, Plant

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize(
    "point",
    [
        "sender.after-open:2",
        "sender.between-frames:40",
        "sender.after-last-frame-before-announce:5",
        "sender.after-progress-event:2",
    ],
)
def test_a_sender_killed_at(plant: Plant, point: str) -> None:
    plant.drop_small(20)
    for number in range(3):
        plant.drop(f"large/{number}", 12 * MEGABYTE)
    plant.assembler().start()
    watch = plant.watch()
    for passage in (point, point.partition(":")[0]):
        watch.start(kill_point=passage)
        watch.await_point()
        watch.kill()
        plant.drop_small(5)
        plant.drop(f"large/{passage}", 12 * MEGABYTE)
    watch.start()
    plant.finish()


@pytest.mark.parametrize(
    "point",
    [
        "loop.after-effect-before-receipt:7",
        "loop.after-receipt-before-commit:7",
        "assembler.between-fsync-and-rename:2",
        "assembler.after-rename-before-receipt:2",
    ],
)
def test_an_assembler_killed_at(plant: Plant, point: str) -> None:
    plant.drop_small(20)
    plant.drop("large", 12 * MEGABYTE)
    plant.watch().start()
    assembler = plant.assembler()
    for passage in (point.partition(":")[0], point):
        assembler.start(kill_point=passage)
        plant.drop_small(10)
        assembler.await_point()
        assembler.kill()
        plant.change_one()
    assembler.start()
    plant.finish()
