"""What all stand-ins share: time, faults, counters."""

from __future__ import annotations

import asyncio

import pytest

from headrace.sandbox.clock import RunningClock, SteppedClock
from headrace.sandbox.counters import Counters
from headrace.sandbox.faults import COMMON_ACTIONS, Fault, FaultPlan, UnknownFault


def test_sleepers_of_a_stepped_clock_wake_in_the_order_of_time():
    async def scenario() -> list[tuple[str, float]]:
        clock, seen = SteppedClock(start=0), []

        async def sleeper(name: str, seconds: float, again: float = 0) -> None:
            await clock.sleep(seconds)
            seen.append((name, clock.now()))
            if again:
                await sleeper(name, again)

        tasks = [asyncio.ensure_future(sleeper(*each)) for each in (("late", 40), ("early", 5, 10), ("never", 1000))]
        await asyncio.sleep(0)
        await clock.advance(60)
        assert clock.now() == 60
        assert clock.sleepers == 1
        tasks[-1].cancel()
        return seen

    assert asyncio.run(scenario()) == [("early", 5), ("early", 15), ("late", 40)]


def test_a_fast_clock_makes_five_minutes_short():
    async def scenario() -> float:
        clock = RunningClock(speed=10_000)
        before = clock.now()
        await clock.sleep(300)
        return clock.now() - before

    assert asyncio.run(scenario()) >= 300


def plan(*rules: dict, **options: object) -> FaultPlan:
    return FaultPlan([Fault.model_validate(each) for each in rules], **options)


def hits(of: FaultPlan, endpoint: str = "batch", node: int = 0, requests: int = 12, elapsed: float = 0) -> list[int]:
    return [number for number in range(1, requests + 1) if of.take(endpoint, node, elapsed)]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"nth": 3}, [3]),
        ({"every": 5}, [5, 10]),
        ({"times": 2}, [1, 2]),
        ({"action": "burst", "nth": 4, "count": 3}, [4, 5, 6]),
        ({"endpoint": "district*"}, []),
        ({"endpoint": "bat*", "node": 0, "nth": 1}, [1]),
        ({"node": 1}, []),
        ({"after": 10}, []),
        ({"until": 10, "nth": 2}, [2]),
        ({"probability": 0}, []),
    ],
)
def test_a_fault_hits_the_requests_that_its_rule_says(rule, expected):
    assert hits(plan({"action": "status", **rule})) == expected


def test_chance_is_equal_for_equal_seeds():
    rule = {"action": "drop_after", "probability": 0.3}
    assert hits(plan(rule, seed=1), requests=99) == hits(plan(rule, seed=1), requests=99)
    assert hits(plan(rule, seed=1), requests=99) != hits(plan(rule, seed=2), requests=99)


def test_a_brownout_lasts_for_its_time():
    faults = plan({"action": "brownout", "nth": 1, "factor": 20, "seconds": 60})
    assert faults.latency_factor(0) == 1
    faults.take("batch", 0, 100)
    assert [faults.latency_factor(at) for at in (100, 159, 161)] == [20, 20, 1]


def test_a_fault_that_the_stand_in_does_not_have_is_refused_and_the_plan_kept():
    faults = plan({"action": "delay"}, actions=COMMON_ACTIONS)
    with pytest.raises(UnknownFault, match="no_location"):
        faults.install([Fault(action="no_location")])
    assert [rule.action for rule in faults.rules] == ["delay"]


def test_counters_form_a_tree_and_add_up():
    counters = Counters()
    counters.count("requests", "batch", "202")
    counters.count("requests", "batch", "400", by=2)
    counters.highest("depth", value=7)
    counters.highest("depth", value=3)
    assert counters.as_tree() == {"depth": 7, "requests": {"batch": {"202": 1, "400": 2}}}
    assert counters.get("requests") == counters.get("requests", "batch") == 3
