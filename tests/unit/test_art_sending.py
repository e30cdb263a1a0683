"""What the sender makes of answers that do not say whom they mean, or whether ART knows a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace

from headrace.errors import PermanentError
from headrace_art.client.errors import RequestRefused
from headrace_art.client.records import BatchStatus, Failure
from headrace_art.students.sending import Limits, Row, Sender


@dataclass
class Student:
    ssid: str
    student: bytes = b"{}"
    cancelled: bool = False


class Clock:
    """Nobody waits."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


class Answers:
    """An ART that answers as it is told: the n-th batch with the n-th status."""

    def __init__(self, *statuses: Callable[[int], BatchStatus]) -> None:
        self.settings = SimpleNamespace(batch_students=100)
        self.posted: list[int] = []
        self._statuses = statuses

    async def post_batch(self, students: Sequence[bytes], may_act: Callable[[], bool] | None = None) -> str:
        assert may_act is None or may_act()
        self.posted.append(len(students))
        return str(len(self.posted) - 1)

    async def batch(self, batch_id: str) -> BatchStatus:
        number = int(batch_id)
        return self._statuses[min(number, len(self._statuses) - 1)](self.posted[number])


def send(answers: Answers, count: int) -> dict[str, PermanentError | None]:
    """What became of so many students."""
    settled: dict[str, PermanentError | None] = {}

    def told(rows: Sequence[tuple[Row, PermanentError | None]], _batch: str | None) -> None:
        for row, problem in rows:
            assert row.ssid not in settled
            settled[row.ssid] = problem

    limits = Limits(timedelta(seconds=15), timedelta(minutes=10), timedelta(minutes=1))
    sender = Sender(answers, Clock(), lambda: True, told, limits, 1_000)  # type: ignore[arg-type]
    asyncio.run(sender.send([Student(f"s{number}") for number in range(count)]))
    assert sender.backlog.outstanding == 0
    return settled


def good(count: int) -> BatchStatus:
    return BatchStatus("", count, count, count, ())


def denied(count: int) -> BatchStatus:
    return BatchStatus("", count, count, count - 1, (Failure("s0", "access denied to institution"),))


def nobody_named(count: int) -> BatchStatus:
    return BatchStatus("", count, count, 0, ())


def test_a_student_is_not_taken_for_saved_when_the_second_try_fails_without_naming_it() -> None:
    settled = send(Answers(denied, nobody_named), 3)
    assert {ssid: None if problem is None else problem.code for ssid, problem in settled.items()} == {
        "s0": "art-student-refused", "s1": None, "s2": None,
    }  # fmt: skip


def test_failures_that_name_nobody_are_found_by_halving() -> None:
    def one_failed(count: int) -> BatchStatus:
        return BatchStatus("", count, count, count - 1, ())

    answers = Answers(one_failed, good, one_failed, good, one_failed)
    settled = send(answers, 4)
    assert answers.posted == [4, 2, 2, 1, 1]
    assert [ssid for ssid, problem in settled.items() if problem is not None] == ["s3"]


def test_a_status_that_cannot_be_had_is_no_refusal_of_the_students() -> None:
    def unknown(_: int) -> BatchStatus:
        raise RequestRefused(endpoint="batch_status", status=404)

    answers = Answers(unknown, good)
    assert send(answers, 5) == dict.fromkeys((f"s{number}" for number in range(5)), None)
    # Once more, when it has not moved for too long; not halved, as what ART refuses.
    assert answers.posted == [5, 5]
