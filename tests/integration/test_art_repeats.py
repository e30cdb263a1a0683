"""Files that come again in part, rows that another copy has, students whom one file names thrice."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from pyroaring import BitMap64

from headrace.broker import EmbeddedBroker
from headrace.events import UploadAck
from headrace.sandbox.faults import Fault
from headrace_art.client import ArtClient
from headrace_art.client.timing import SystemTime
from headrace_art.students.sending import Limits, Sender
from tests.support.art import art_settings, sandbox
from tests.support.art import student as json_of
from tests.support.art_loading import Loading, ServedArt, served_art
from tests.support.art_records import Message, Published, confirmed_school, district, student
from tests.support.running import dead_letters, receipts_on_log, running
from tests.support.waiting import wait_until

LIMITS = Limits(timedelta(seconds=15), timedelta(minutes=10), timedelta(minutes=1))


@pytest.fixture
def art() -> Iterator[ServedArt]:
    with served_art() as served:
        yield served


@pytest.fixture
def loading(broker: EmbeddedBroker, prefix: str, tmp_path: Path, art: ServedArt) -> Loading:
    loading = Loading(broker.bootstrap, prefix, tmp_path, art)
    put(loading, [confirmed_school()])
    return loading


def put(loading: Loading, messages: Sequence[Message]) -> None:
    for topic, key, value, partition in messages:
        loading.feeder.raw(topic, value, key, partition)
    loading.feeder.flush()


def receipts(loading: Loading, published: Published) -> list[UploadAck]:
    return [ack for ack in receipts_on_log(loading.cluster) if ack.item == published.item]


def told(ack: UploadAck) -> dict[str, set[int]]:
    """Lines by outcome."""
    found: dict[str, set[int]] = {}
    for each in ack.covers:
        found.setdefault(each.outcome, set()).update(BitMap64.deserialize(each.lines or b""))
    return found


@pytest.mark.kafka
def test_the_rest_of_a_repeated_file_takes_nothing_back_of_what_its_receipt_said(loading: Loading) -> None:
    published = Published("file", "art_students", [student(f"s{number}") for number in range(20)])
    put(loading, published.whole())
    with running(loading.students(), loading.cluster):
        wait_until(lambda: receipts(loading, published), within=30)
    put(loading, [*published.records()[12:], published.marker()])
    # A process that has seen nothing of the first time.
    with running(loading.students(), loading.cluster):
        wait_until(lambda: len(receipts(loading, published)) == 2, within=30)
    assert [told(ack) for ack in receipts(loading, published)] == [{"delivered": set(range(2, 22))}] * 2
    assert loading.art.counted("students", "submitted") == 20


@pytest.mark.kafka
def test_a_repeat_whose_end_never_comes_is_no_failed_file(loading: Loading) -> None:
    published = Published("file", "art_students", [student(f"s{number}") for number in range(20)])
    put(loading, published.whole())
    with running(loading.students(incomplete_after="1s"), loading.cluster):
        wait_until(lambda: receipts(loading, published), within=30)
        put(loading, published.records()[5:7])
        wait_until(lambda: len(receipts(loading, published)) == 2, within=30)
    assert told(receipts(loading, published)[-1]) == {"delivered": set(range(2, 22))}


@pytest.mark.kafka
def test_a_repeat_without_an_end_waits_for_the_schools_file_that_is_under_way_in_its_partition(
    loading: Loading,
) -> None:
    old, elsewhere = (Published(f"old-{place}", "art_schools", [district(place)], place) for place in range(2))
    new = Published("new", "art_schools", [district(9)])
    put(loading, [*old.whole(), *elsewhere.whole()])
    with running(loading.entities(incomplete_after="1s"), loading.cluster):
        wait_until(lambda: receipts(loading, old) and receipts(loading, elsewhere), within=30)
        asked = loading.art.requests("district_post")
        loading.art.served.plan.install([Fault(endpoint="district_post", action="status", status=503)])
        put(loading, new.whole())
        wait_until(lambda: loading.art.requests("district_post") > asked, within=30)
        put(loading, old.records())
        put(loading, elsewhere.records())
        wait_until(lambda: len(receipts(loading, elsewhere)) == 2, within=30)
        assert len(receipts(loading, old)) == 1
        loading.art.served.plan.install([])
        wait_until(lambda: receipts(loading, new) and len(receipts(loading, old)) == 2, within=60)


@pytest.mark.kafka
def test_a_file_whose_end_never_comes_is_given_up(loading: Loading) -> None:
    published = Published("file", "art_students", [student(f"s{number}") for number in range(5)])
    put(loading, published.records())
    with running(loading.students(incomplete_after="1s"), loading.cluster):
        wait_until(lambda: receipts(loading, published), within=30)
    (ack,) = receipts(loading, published)
    assert [(each.outcome, each.code) for each in ack.covers] == [("failed", "incomplete")]


@pytest.mark.kafka
def test_a_row_is_put_aside_once_though_its_file_is_read_twice(loading: Loading) -> None:
    published = Published("file", "art_students", [student("s1"), student("s2", Sex="X")])
    put(loading, published.records())
    for _ in range(2):
        # Without its end the file stays open, so that the next process begins it again.
        with running(loading.students(), loading.cluster):
            wait_until(lambda: loading.art.counted("students", "saved") and dead_letters(loading.cluster), within=30)
    put(loading, [published.marker()])
    with running(loading.students(), loading.cluster):
        wait_until(lambda: receipts(loading, published), within=30)
    assert len(dead_letters(loading.cluster)) == 1
    assert told(receipts(loading, published)[-1]) == {"delivered": {2}, "dead_lettered": {3}}


@pytest.mark.kafka
def test_the_last_row_of_a_student_counts_even_if_it_says_what_the_first_one_said(loading: Loading) -> None:
    first, second = student("s1", FirstName="Ana"), student("s1", FirstName="Bea")
    nights = [Published(f"night-{night}", "art_students", [first, second, first]) for night in range(2)]
    with running(loading.students(), loading.cluster):
        for night in nights:
            put(loading, night.whole())
            wait_until(lambda night=night: receipts(loading, night), within=30)  # type: ignore[misc]
    (stored,) = loading.art.table("students")
    assert stored["firstName"] == "Ana"
    assert loading.art.counted("students", "submitted") == 3
    assert told(receipts(loading, nights[1])[0]) == {"unchanged": {2, 3, 4}}


@pytest.mark.kafka
def test_repeated_rows_do_not_put_back_what_a_later_row_has_changed(loading: Loading) -> None:
    rows = [student("s1", FirstName=name) for name in "abcdefg"]
    published = Published("file", "art_students", rows)
    put(loading, published.records())
    with running(loading.students(), loading.cluster):
        wait_until(lambda: loading.art.counted("students", "saved") == len(rows), within=60)
        put(loading, published.whole())
        wait_until(lambda: receipts(loading, published), within=30)
    (stored,) = loading.art.table("students")
    assert stored["firstName"] == "g"
    assert loading.art.counted("students", "saved") == len(rows)


@dataclass
class Row:
    """A student to be sent."""

    ssid: str
    student: bytes
    cancelled: bool = False


def encoded(number: int) -> Row:
    return Row(f"77{number:08}", orjson.dumps(json_of(number)))


def test_rows_that_another_copy_has_by_now_are_not_sent_when_art_comes_back() -> None:
    async def scenario() -> None:
        faults = [{"endpoint": "batch_post", "action": "status", "status": 503, "times": 2}]
        async with sandbox(faults=faults) as served:
            settled: list[str] = []
            async with ArtClient(art_settings(served)) as client:
                sender = Sender(
                    client, SystemTime(), lambda: True,
                    lambda rows, _: settled.extend(row.ssid for row, _ in rows), LIMITS, 100,
                )  # fmt: skip
                rows = [encoded(number) for number in range(4)]
                sending = asyncio.create_task(sender.send(rows))
                while not served.world.counters.get("faults", "status", "batch_post"):
                    await asyncio.sleep(0.01)
                for row in rows[:3]:
                    row.cancelled = True
                await asyncio.wait_for(sending, 30)
            assert settled == [rows[3].ssid]
            assert served.world.counters.get("students", "submitted") == 1
            assert sender.backlog.outstanding == 0

    asyncio.run(scenario())


def test_a_post_that_was_under_way_while_the_process_slept_is_broken_off() -> None:
    async def scenario() -> Any:
        async with sandbox() as served:
            awake = itertools.chain([True, True], itertools.repeat(False, 1), itertools.repeat(True))
            settled: list[str] = []
            async with ArtClient(art_settings(served)) as client:
                sender = Sender(
                    client, SystemTime(), lambda: next(awake),
                    lambda rows, _: settled.extend(row.ssid for row, _ in rows), LIMITS, 9_000,
                )  # fmt: skip
                rows = [encoded(number) for number in range(3_000)]
                assert sum(len(row.student) for row in rows) > 2 * 1024 * 1024
                await asyncio.wait_for(sender.send(rows), 30)
            return settled, served.world.counters.get("students", "submitted")

    settled, submitted = asyncio.run(scenario())
    assert len(settled) == submitted == 3_000
