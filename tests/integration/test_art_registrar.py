"""Schools whose district ART does not know: they wait for it together, and are told of when it does not come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headrace.sandbox.clock import RunningClock
from headrace.sandbox.faults import Fault
from headrace_art.client import ArtClient
from headrace_art.client.patience import Patience
from headrace_art.entities.registrar import ParentMissing, Registered, Registrar, Shared
from headrace_art.entity_plan import Wanted
from tests.support.art import DISTRICT, art_settings, sandbox

COMING, MISSING = DISTRICT["entityId"], "99009990000000"
OTHER = {**DISTRICT, "entityId": "99004560000000", "nationwideIdentifier": "99004560000000"}
SCHOOLS = [
    Wanted("institution", f"9900{parent[4:7]}{number:07}", f"School {number}", parent, "CA")
    for parent in (COMING, MISSING)
    for number in range(100, 140)
]


def test_schools_wait_together_for_a_district_that_another_copy_registers_and_for_one_that_nobody_does():
    async def run() -> None:
        told: list[Registered] = []
        async with sandbox(RunningClock(speed=20)) as served, ArtClient(art_settings(served)) as art:
            patience = Patience(served.clock, 600)
            registrar = Registrar(
                art, Shared(4), patience, served.clock, lambda: True, lambda _: False, 30.0, lambda: False, told.append
            )

            async def another_copy() -> None:
                await served.clock.sleep(5)
                await art.create("district", DISTRICT)

            other = asyncio.create_task(another_copy())
            await registrar.register([], SCHOOLS)
            await other
            refused = {each.wanted.parent_id for each in told if isinstance(each.problem, ParentMissing)}
            assert len(told) == len(SCHOOLS)
            assert refused == {MISSING}
            assert len(served.world.entities.kinds["institution"]) == 40
            # Each was tried once; after that one of each district, about once a second.
            assert served.world.counters.get("requests", "institution_post", "400") < len(SCHOOLS) + 60

    asyncio.run(asyncio.wait_for(run(), 30))


def test_schools_of_a_district_that_art_fails_at_hold_up_no_other_school():
    stuck = Wanted("district", COMING, "Stuck Unified", "CA", "CA")
    waiting = [each for each in SCHOOLS if each.parent_id == COMING]
    others = [each._replace(parent_id=OTHER["entityId"]) for each in SCHOOLS if each.parent_id == MISSING]

    async def run() -> None:
        async with sandbox(RunningClock(speed=20)) as served, ArtClient(art_settings(served)) as art:
            await art.create("district", OTHER)
            served.plan.install([Fault(endpoint="district_post", action="status", status=503)])
            shared, told = Shared(4), list[Registered]()

            def part() -> Registrar:
                patience = Patience(served.clock, 600)
                return Registrar(
                    art, shared, patience, served.clock, lambda: True, lambda _: False, 1.0, lambda: False, told.append
                )

            first = asyncio.create_task(part().register([stuck], []))
            await asyncio.sleep(0)  # it says what is coming
            second = asyncio.create_task(part().register([], [*waiting, others[0]]))
            await part().register([], others[1:])
            await until_true(lambda: len(told) == len(others))
            assert {each.wanted for each in told} == set(others)
            served.plan.install([])
            await asyncio.gather(first, second)
            assert len(told) == 1 + len(SCHOOLS)
            assert all(each.problem is None for each in told)

    asyncio.run(asyncio.wait_for(run(), 30))


async def until_true(condition: Callable[[], bool]) -> None:
    """Return when it holds."""
    while not condition():
        await asyncio.sleep(0.01)
