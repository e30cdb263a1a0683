"""ART when it is slow, away, wrong or forgetful: scenarios of the reference, section 5.7, by their numbers.

Outages of minutes take seconds: ART and its client live on a clock that runs faster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from headrace.broker import EmbeddedBroker
from headrace.sandbox.clock import RunningClock
from headrace.stage.contract import Partition
from headrace.stage.middleware import Middleware
from headrace_art.client.errors import PermissionMissing
from tests.support.art_loading import Dump, Loading, ServedArt, check, saved_more_than_once, served_art
from tests.support.running import RunningLoop, receipts_on_log, running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

Load = Callable[[ServedArt], Loading]
SMALL = {"batch_students": 50}


@pytest.fixture
def load(broker: EmbeddedBroker, prefix: str, tmp_path: Path) -> Load:
    return lambda art: Loading(broker.bootstrap, prefix, tmp_path, art)


class Waits(Middleware):
    """How often each partition waited for its job's schools."""

    def __init__(self) -> None:
        self.partitions: Counter[int] = Counter()

    def after_pause(self, partitions: Sequence[Partition], seconds: float, reason: str) -> None:
        if "schools of night" in reason:
            self.partitions.update(partition.number for partition in partitions)


def a_night(loading: Loading, dump: Dump, during: Callable[[], Any] = lambda: None, **students: Any) -> Any:
    """One night; `during` is called when ART has the first students."""
    _, file = loading.feed(dump)
    with loading.running(**{"art": SMALL, **students}):
        wait_until(lambda: loading.art.counted("students", "submitted") > 0, within=30)
        during()
        loading.wait(file, within=90)
    return file


def test_a4_a_small_slow_queue_never_refuses_and_all_arrive(load: Load, tmp_path: Path) -> None:
    dump = Dump.make(tmp_path, rows=1_000)
    with served_art(queue_max=200, consume_changed=400) as art:
        loading = load(art)
        file = a_night(loading, dump, ceiling=200)
        assert check(loading, file, dump) == []
        entered = art.counters().get("states_entered", {})
        assert not any("REFUSING" in str(node).upper() for node in entered.values())


def test_a5_an_art_that_refuses_connections_for_five_minutes_is_waited_for(load: Load, tmp_path: Path) -> None:
    dump = Dump.make(tmp_path, rows=1_000)
    clock = RunningClock(60)
    with served_art(clock, consume_changed=5) as art:
        loading = load(art)

        def outage() -> None:
            for node in (0, 1):
                art.run(art.served.commands()["node/kill"]({"node": node}))
            began = clock.now()
            wait_until(lambda: clock.now() - began > 300, within=30)
            art.served.world.settings = art.served.world.settings.model_copy(update={"consume_changed": None})
            for node in (0, 1):
                art.run(art.served.commands()["node/restore"]({"node": node}))

        file = a_night(loading, dump, outage, clock=clock, ceiling=300)
        assert check(loading, file, dump) == []


def test_a6_students_that_a_restarted_broker_lost_are_sent_again(load: Load, tmp_path: Path) -> None:
    dump = Dump.make(tmp_path, rows=600)
    with served_art(consume_changed=0) as art:
        loading = load(art)

        def restart() -> None:
            wait_until(lambda: art.counted("students", "submitted") >= 300, within=30)
            lost = art.run(art.served.commands()["broker/restart"]({}))
            assert lost["lost"] > 0
            art.served.configure({"consume_changed": None})

        file = a_night(loading, dump, restart, ceiling=300, stall="2s")
        assert check(loading, file, dump) == []
        assert art.counted("students", "lost") > 0


def test_a7_tokens_that_live_five_seconds_are_renewed_once_each(load: Load, tmp_path: Path) -> None:
    dump = Dump.make(tmp_path, rows=800)
    clock = RunningClock(10)
    with served_art(clock, token_ttl_s=5, expired_mode="mixed", consume_changed=20) as art:
        loading = load(art)
        began = clock.now()
        file = a_night(loading, dump, clock=clock, ceiling=200)
        lives = (clock.now() - began) / 4 + 1
        assert check(loading, file, dump) == []
        # One client each in the two stages; the stage of entities has one on a real clock.
        assert 3 < art.counted("tokens_issued") <= 2 * lives + 2


def test_a8_a_missing_permission_stops_the_load_with_a_clear_error_and_no_storm_of_tokens(
    load: Load, tmp_path: Path
) -> None:
    dump = Dump.make(tmp_path, rows=300)
    with served_art() as art:
        loading = load(art)
        loading.feed(dump)
        with running(loading.fan_out(), loading.cluster), running(loading.entities(), loading.cluster):
            art.served.configure({"permissions": ["Student Read", "Student Modify", "Entity Read", "Entity Modify"]})
            loop = RunningLoop(loading.students(art=SMALL), loading.cluster)
            wait_until(lambda: loop.failure is not None, within=60)
        with pytest.raises(PermissionMissing, match="Student Upload"):
            loop.stop()
        assert art.counted("tokens_issued") <= 3
        assert art.requests("batch_post") <= 6


def test_a10_answers_that_are_lost_after_processing_cost_a_bounded_number_of_sends(load: Load, tmp_path: Path) -> None:
    dump = Dump.make(tmp_path, rows=2_000)
    faults = [{"endpoint": "batch_post", "action": "drop_after", "every": 10}]
    with served_art(faults=faults) as art:
        loading = load(art)
        file = a_night(loading, dump)
        assert check(loading, file, dump) == []
        assert 2_000 < art.counted("students", "submitted") <= 2_000 * 1.3
        assert not saved_more_than_once(art)


def test_a11_bursts_of_503_and_twenty_times_the_latency_are_got_through(load: Load, tmp_path: Path) -> None:
    dump = Dump.make(tmp_path, rows=1_000)
    faults = [
        {"endpoint": "batch_post", "action": "burst", "every": 7, "times": 3, "count": 4},
        {"endpoint": "*", "action": "brownout", "nth": 30, "seconds": 60, "factor": 20},
    ]
    clock = RunningClock(30)
    with served_art(clock, faults=faults, latency_ms=50) as art:
        loading = load(art)
        file = a_night(loading, dump, clock=clock)
        assert check(loading, file, dump) == []
        assert art.counted("faults", "burst") >= 8
        assert not saved_more_than_once(art)


def test_a20_students_of_schools_that_were_created_a_moment_ago_are_tried_again(load: Load, tmp_path: Path) -> None:
    dump = Dump.make(tmp_path, rows=400)
    clock = RunningClock(10)
    with served_art(clock, entity_cache_lag_s=10) as art:
        loading = load(art)
        file = a_night(loading, dump, clock=clock)
        assert check(loading, file, dump) == []
        assert loading.lines(file).counts == {"delivered": 400}
        assert art.counted("students", "failed") > 0


def test_a_refused_batch_is_halved_until_the_one_row_is_found(load: Load, tmp_path: Path) -> None:
    dump = Dump.make(tmp_path, rows=300)
    with served_art(max_body=20_000) as art:
        loading = load(art)
        file = a_night(loading, dump, art={"batch_students": 300})
        assert check(loading, file, dump) == []
        assert art.counters()["requests"]["batch_post"]["413"] > 1


def test_a_student_that_art_itself_refuses_is_a_dead_letter_without_its_values(load: Load, tmp_path: Path) -> None:
    dump = Dump.make(tmp_path, rows=100)
    with served_art() as art:
        loading = load(art)
        school = next(iter(sorted(_ids(dump))))
        art.served.configure({"outside_entities": [school]})
        file = a_night(loading, dump, access_wait="1s")
        counts = loading.lines(file).counts
        assert counts["dead_lettered:art-access-denied"] + counts["delivered"] == 100
        assert counts["dead_lettered:art-access-denied"] > 0


def test_students_wait_for_the_schools_of_their_job(load: Load, tmp_path: Path) -> None:
    dump = Dump.make(tmp_path, rows=100)
    with served_art() as art:
        loading = load(art)
        _, file = loading.feed(dump)
        waits = Waits()
        with (
            running(loading.fan_out(), loading.cluster),
            running(loading.students(), loading.cluster, middleware=[waits]),
        ):
            # They were given to the stage more than once, after the whole file was on the log.
            wait_until(lambda: any(ack.item == file.item for ack in receipts_on_log(loading.cluster)), within=30)
            waits.partitions.clear()
            wait_until(lambda: all(waits.partitions[number] > 1 for number in range(3)), within=30)
            assert loading.receipts(file) == []
            assert art.requests("batch_post") == 0
            with running(loading.entities(), loading.cluster):
                loading.wait(file)
        assert check(loading, file, dump) == []


def _ids(dump: Dump) -> set[str]:
    from tests.support.art_loading import rows_of

    return {
        row["Auth CDS Code"] for _, row in rows_of(dump.schools) if row["School Code"] != row["County-District Code"]
    }
