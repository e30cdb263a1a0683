"""Nights of a state while services that bring them to ART are killed, sleep, or lose Kafka."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker
from headrace.sandbox.faults import Fault
from tests.support.art_crew import Crew
from tests.support.art_loading import ServedArt, served_art
from tests.support.processes import Service
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

LOOP = ("loop.after-effect-before-receipt", "loop.after-receipt-before-commit")
STUDENTS = (
    *LOOP,
    "students.before-post",
    "students.after-post-before-result",
    "students.after-post-before-result:2",
    "students.after-result-before-state",
    "students.after-result-before-state:2",
    "students.after-state-before-receipt",
    "students.after-state-before-receipt:2",
)
ENTITIES = (
    "entities.between-requests:9",
    "entities.between-requests",
    "entities.before-rename",
    "entities.before-rename:5",
    *LOOP,
    "entities.after-art-before-publishing",
    "entities.after-art-before-publishing:2",
    "entities.after-publishing-before-done",
    "entities.after-done-before-receipt",
    "entities.after-done-before-receipt:3",
)

MIXED = [
    Fault(endpoint="batch_post", action="drop_after", every=7),
    Fault(endpoint="batch_post", action="burst", every=11, count=3),
    Fault(endpoint="batch_post", action="partial_publish", every=13, count=20),
    Fault(endpoint="batch_post", action="no_location", every=17),
    Fault(endpoint="*", action="drop_before", probability=0.01),
    Fault(endpoint="*", action="expire_tokens_now", probability=0.01),
    Fault(endpoint="*_post", action="status", status=502, probability=0.01),
    Fault(endpoint="batch_status", action="truncate_body", probability=0.02),
]
"""What ART and the way to it do during the worst test, all at once."""


@pytest.fixture
def art() -> Iterator[ServedArt]:
    with served_art() as served:
        yield served


@pytest.fixture
def crew(
    broker: EmbeddedBroker, prefix: str, tmp_path: Path, art: ServedArt, say: Callable[[str], None]
) -> Iterator[Crew]:
    crew = Crew(broker, prefix, tmp_path, art, say)
    yield crew
    crew.end()


@pytest.fixture
def fragile_crew(
    own_broker: EmbeddedBroker, prefix: str, tmp_path: Path, art: ServedArt, say: Callable[[str], None]
) -> Iterator[Crew]:
    crew = Crew(own_broker, prefix, tmp_path, art, say)
    yield crew
    crew.end()


def others(crew: Crew, service: Service) -> None:
    """Start again what ended by itself but for this one, which is to be killed."""
    for each in crew.services.values():
        if each is not service:
            each.revive()


def kill_at_each(crew: Crew, service: Service, points: tuple[str, ...], rows: int) -> None:
    """Kill the service at each point in turn, with another night for it each time."""
    for point in points:
        crew.night(rows, duplicates=0.02, schools=40)
        service.start(kill_point=point)
        service.await_point(meanwhile=lambda: others(crew, service))
        service.kill()
    service.start()


def test_students_killed_at_each_point_bring_everybody_to_art_once(crew: Crew) -> None:
    crew.service("csv_fanout").start()
    crew.service("entities").start()
    kill_at_each(crew, crew.service("students"), STUDENTS, 400)
    crew.finish()


def test_entities_killed_at_each_point_register_every_school(crew: Crew) -> None:
    crew.service("csv_fanout").start()
    crew.service("students").start()
    kill_at_each(crew, crew.service("entities"), ENTITIES, 30)
    crew.finish()


def test_students_killed_while_their_partitions_go_to_another(crew: Crew) -> None:
    crew.service("csv_fanout").start()
    crew.service("entities").start()
    first, second = crew.service("students"), crew.service("students", 2)
    crew.night(2_000)
    first.start(kill_point="loop.during-revoke")
    wait_until(lambda: crew.art.counted("students", "saved") > 0, within=30)
    second.start()
    first.await_point()
    first.kill()
    crew.night(2_000, like=0, changed=0.2)
    crew.finish()


def test_students_that_slept_past_their_session_in_a_post_put_nothing_old_back(
    broker: EmbeddedBroker, prefix: str, tmp_path: Path, art: ServedArt, say: Callable[[str], None]
) -> None:
    # One body of megabytes, which the network cannot hold: a part of it is still to be sent by the sleeper. Two halves
    # would fit, so it goes when all of it is there, however slowly that comes.
    large = {"HEADRACE_ART__BATCH_STUDENTS": "9000", "HEADRACE_STUDENTS__LINGER": "5s"}
    crew = Crew(broker, prefix, tmp_path, art, say, **large)
    try:
        sleep_in_a_post(crew)
    finally:
        crew.end()


def done_without(crew: Crew, sleeper: Service) -> bool:
    """Whether everything is done; the sleeper is not looked at."""
    del crew.services[sleeper.name]
    try:
        return crew.done()
    finally:
        crew.services[sleeper.name] = sleeper


def sleep_in_a_post(crew: Crew) -> None:
    for stage in ("csv_fanout", "entities"):
        crew.service(stage).start()
    crew.night(9_000)
    wait_until(lambda: len(crew.said()[1]) == 1, within=30)
    crew.art.served.plan.install([Fault(endpoint="batch_post", action="delay", seconds=4, times=1)])
    sleeper, other = crew.service("students"), crew.service("students", 2)
    sleeper.start()
    wait_until(lambda: crew.art.counted("faults", "delay", "batch_post") > 0, within=30)
    sleeper.pause()
    other.start()
    # The same students, a fifth of them with other values: the sleeper holds what they were before.
    crew.night(9_000, like=0, wait=False, changed=0.2)
    wait_until(lambda: done_without(crew, sleeper), within=90)
    assert crew.art.counted("students", "submitted") < 9_000 * 1.3
    sleeper.wake()
    crew.night(9_000, like=0, changed=0.1)
    crew.finish()


def test_a_broker_that_is_killed_and_comes_back_costs_nobody(fragile_crew: Crew, own_broker: EmbeddedBroker) -> None:
    crew = fragile_crew
    crew.art.served.configure({"consume_changed": 300})
    for stage in ("csv_fanout", "entities", "students"):
        crew.service(stage).start()
    crew.night(1_500)
    # By the second time ART may have worked off what it had before the first.
    for at_least in (1, 1_000):
        wait_until(lambda least=at_least: crew.art.counted("students", "saved") >= least, within=60)
        own_broker.kill()
        own_broker.start()
    crew.finish()


def work_and_kill(crew: Crew, kills: int, own_broker: EmbeddedBroker | None = None) -> None:
    """Kill one service after another in mid-load, each some moments after the last, and start it again."""
    services = [crew.service("csv_fanout"), crew.service("entities"), crew.service("students")]
    services.append(crew.service("students", 2))
    for service in services:
        service.start()
    faults: Counter[str] = Counter()
    for number in range(kills):
        if number % 3 == 0:
            state = crew.random.randrange(number // 3 + 1)
            known = state < len(crew.nights)
            plan = {"like": state, "changed": crew.random.uniform(0, 0.3)} if known else {"like": number // 3}
            crew.night(1_000, duplicates=0.01, **plan)
        # A random moment is the point: there is no condition to wait for.
        time.sleep(crew.random.uniform(0.2, 2.0))
        if own_broker is not None and crew.random.random() < 0.1:
            own_broker.kill()
            own_broker.start()
            faults["broker"] += 1
            continue
        victim = crew.random.choice(services)
        faults[victim.name] += 1
        victim.kill()
        time.sleep(crew.random.choice([0.0, 0.0, 0.5]))
        victim.start()
        crew.keep()


def test_a_few_kills_in_mid_load_lose_and_double_nobody(crew: Crew) -> None:
    crew.art.served.configure({"consume_changed": 500})
    work_and_kill(crew, 4)
    crew.finish()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_thirty_kills_in_mid_load_lose_and_double_nobody(crew: Crew) -> None:
    crew.art.served.configure({"consume_changed": 500})
    work_and_kill(crew, 30)
    crew.finish(within=240)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_everything_at_once_loses_and_doubles_nobody(fragile_crew: Crew, own_broker: EmbeddedBroker) -> None:
    crew = fragile_crew
    crew.art.served.configure({"consume_changed": 500})
    crew.art.served.plan.install(MIXED)
    work_and_kill(crew, 30, own_broker)
    crew.finish(within=240)
