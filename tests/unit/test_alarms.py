"""When an alarm is raised, row by row, and what it takes to end it."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from headrace.events import Books, Command, Covers, FileEvent, Job, Outcome, UploadAck
from headrace.jobs.log import Word
from headrace.keys import file_id
from headrace_ops.alarms import rules
from headrace_ops.alarms.board import Board
from headrace_ops.alarms.rules import Alarm, Handled, JobSeen
from headrace_ops.alarms.seen import Seen
from headrace_ops.alarms.settings import AlarmsSettings
from headrace_ops.positions import Committed, Positions

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def ago(**span: float) -> datetime:
    return NOON - timedelta(**span)


def abouts(alarms: object) -> list[str]:
    return [alarm.about for alarm in alarms]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("last", "raised"),
    [({}, True), ({"lab": ago(hours=25)}, True), ({"lab": ago(hours=24)}, False), ({"lab": NOON}, False)],
)
def test_a_source_is_silent_when_its_last_file_is_older_than_its_limit(last, raised):
    assert abouts(rules.silent_sources({"lab": DAY}, last, NOON)) == (["lab"] if raised else [])


@pytest.mark.parametrize(
    ("jobs", "raised"),
    [
        ({}, True),
        ({"nightly-24": JobSeen(ago(hours=20), None)}, False),
        ({"nightly-25": JobSeen(ago(hours=1), None)}, False),
        ({"nightly-25": JobSeen(NOON, None)}, False),
        ({"nightly-23": JobSeen(ago(hours=31), None)}, True),
        ({"nightly-25": JobSeen(None, "3 wait for assembler")}, True),
        ({"other": JobSeen(NOON, None)}, True),
        ({"nightly-24": JobSeen(ago(hours=25), None), "nightly-25": JobSeen(None, None)}, False),
    ],
)
def test_a_job_is_overdue_when_none_was_balanced_in_the_day_before_its_time_or_since(jobs, raised):
    assert abouts(rules.jobs_overdue({"nightly-*": time(6)}, jobs, NOON)) == (["nightly-*"] if raised else [])


def test_an_overdue_job_says_what_is_missing():
    (alarm,) = rules.jobs_overdue({"nightly-*": time(6)}, {"nightly-25": JobSeen(None, "3 wait for x")}, NOON)
    assert "nightly-25 (3 wait for x)" in alarm.message
    assert "06:00" in alarm.message


@pytest.mark.parametrize(
    ("of_day", "now", "deadline"),
    [
        (time(6), "2026-11-25T12:00", "2026-11-25T06:00"),
        (time(12), "2026-11-25T12:00", "2026-11-25T12:00"),
        (time(18), "2026-11-25T12:00", "2026-11-24T18:00"),
        (time(2, 30), "2026-03-29T12:00", "2026-03-29T02:30"),
    ],
)
def test_the_last_deadline_is_today_or_yesterday(of_day, now, deadline):
    zone = ZoneInfo("Europe/Berlin")
    found = rules.last_deadline(of_day, datetime.fromisoformat(now).replace(tzinfo=zone))
    assert found == datetime.fromisoformat(deadline).replace(tzinfo=zone)


@pytest.mark.parametrize(
    ("dead", "every", "raised"), [(0, 0, False), (0, 100, False), (1, 100, False), (2, 100, True), (1, 1, True)]
)
def test_dead_letters_are_told_of_above_their_share(dead, every, raised):
    found = rules.dead_letters(0.01, {"g": Handled(dead, every)}, timedelta(minutes=10))
    assert abouts(found) == (["g"] if raised else [])


@pytest.mark.parametrize(
    ("low", "aged", "begin", "end", "raised"),
    [
        (50, 40, 0, 100, False),
        (39, 40, 0, 100, True),
        (40, 40, 0, 100, False),
        (100, 100, 0, 100, False),
        (0, 0, 0, 0, False),
        (10, 40, 20, 100, True),
    ],
)
def test_a_group_that_needs_what_is_past_its_share_of_the_retention_is_told_of(low, aged, begin, end, raised):
    place = ("chunks", 0)
    # The position does not help: who takes over goes on from the low-water mark.
    positions = Positions({"g": {place: Committed(low, end)}}, {place: begin}, {place: end})
    found = list(rules.retention(positions, {place: aged}, {"chunks": DAY}))
    assert abouts(found) == (["g chunks"] if raised else [])
    assert ("expired" in "".join(alarm.message for alarm in found)) == (low < begin)


@pytest.mark.parametrize(
    ("low", "begin", "end", "raised"),
    [
        (149, 100, 200, True),
        (150, 100, 200, False),
        (200, 100, 200, False),
        (0, 0, 200, False),
        (99, 100, 200, True),
        (100, 100, 111, True),
        (100, 100, 110, False),
    ],
)
def test_by_size_a_group_is_told_of_that_needs_the_older_half_of_what_is_kept_once_something_is_deleted(
    low, begin, end, raised
):
    place = ("chunks", 0)
    positions = Positions({"g": {place: Committed(low, end)}}, {place: begin}, {place: end})
    found = list(rules.retention(positions, {}, {}, {"chunks"}))
    assert abouts(found) == (["g chunks"] if raised else [])
    assert ("expired" in "".join(alarm.message for alarm in found)) == (low < begin)
    assert not list(rules.retention(positions, {}, {}, ()))


def test_a_group_that_is_late_by_age_in_one_partition_and_by_size_in_another_is_told_of_once():
    old, crowded = ("chunks", 0), ("chunks", 1)
    committed = {old: Committed(0, 0), crowded: Committed(100, 100)}
    positions = Positions({"g": committed}, {old: 0, crowded: 100}, {old: 9, crowded: 200})
    (alarm,) = rules.retention(positions, {old: 5, crowded: 100}, {"chunks": DAY}, {"chunks"})
    assert "older than 1d or among the oldest 50%" in alarm.message
    assert "2 partitions" in alarm.message


def test_a_topic_that_keeps_everything_never_is_late():
    place = ("entities", 0)
    positions = Positions({"g": {place: Committed(0, 0)}}, {place: 0}, {place: 9})
    assert not list(rules.retention(positions, {}, {"chunks": DAY}))


def test_a_disk_is_low_below_its_limit():
    assert abouts(rules.disks_low(100, {"/a": 99, "/b": 100})) == ["/a"]


def test_files_that_failed_are_named_by_id_and_counted():
    (alarm,) = rules.files_failed({"g": ["d", "c", "b", "a"], "h": []})
    assert alarm.about == "g"
    assert "4 failed" in alarm.message
    assert "a, b, c, …" in alarm.message


def test_an_alarm_is_told_once_when_it_begins_and_once_when_it_ends():
    board = Board()
    alarm = Alarm("disk-low", "/", "9 GB free")
    later = Alarm("disk-low", "/", "8 GB free")
    assert [each.event for each in board.update([alarm], ago(minutes=3))] == ["raised"]
    assert board.update([later], ago(minutes=2)) == []
    (ended,) = board.update([], NOON)
    assert (ended.event, ended.since, ended.at, ended.alarm) == ("cleared", ago(minutes=3), NOON, later)
    assert board.update([], NOON) == []


def seen(window: timedelta = timedelta(minutes=10)) -> Seen:
    return Seen(["lab"], ["nightly-*"], "h.dlq", window)


def receipt(outcome: Outcome, item: str = "a", group: str = "g", count: int = 1) -> UploadAck:
    covers = [Covers(outcome=outcome, count=count)]
    return UploadAck(group=group, item=item, partition=0, first=0, last=0, covers=covers, at=0)


def event(attempt: int = 0, source: str = "lab", state: str = "announced") -> FileEvent:
    return FileEvent(
        path_id=b"p" * 16, file=file_id(source, b"f", 1, 2, 3, attempt), source=source, path=b"f", state=state,  # type: ignore[arg-type]
        attempt=attempt, inode=1, mtime_ns=3, size=2, partition=0, at=0,
    )  # fmt: skip


def test_only_announced_files_of_sources_that_matter_are_heard():
    log = seen()
    log.take_event(event(state="sending"), NOON)
    log.take_event(event(source="other"), NOON)
    assert log.last_files == {}
    log.take_event(event(), NOON)
    log.take_event(event(), ago(hours=1))
    assert log.last_files == {"lab": NOON}


def test_what_was_handled_is_counted_within_the_window_only_and_in_any_order():
    log = seen()
    for minutes in (30, 1, 20, 5, 9, 0):
        log.take_receipt(receipt("delivered"), ago(minutes=minutes))
    log.take_receipt(receipt("dead_lettered", count=3), ago(minutes=4))
    assert log.handled(NOON) == {"g": Handled(3, 7)}
    assert log.handled(NOON + timedelta(minutes=30)) == {}


def test_an_event_that_a_service_is_too_old_for_is_told_of_however_rare():
    log = seen()
    covers = [Covers(outcome="dead_lettered", code="unknown-schema")]
    log.take_receipt(receipt("delivered", count=10_000), NOON)
    assert not list(rules.unknown_schemas(log.handled(NOON)))
    log.take_receipt(UploadAck(group="g", item="b", partition=0, first=0, last=0, covers=covers, at=0), NOON)
    assert log.handled(NOON) == {"g": Handled(1, 10_001, 1)}
    assert abouts(rules.unknown_schemas(log.handled(NOON))) == ["g"]


def test_decisions_on_dead_letters_are_no_work_of_a_service():
    log = seen()
    log.take_receipt(receipt("delivered", group="h.dlq"), NOON)
    assert log.handled(NOON) == {}


def failed(log: Seen, now: datetime = NOON) -> list[str]:
    return log.failed(now, timedelta(minutes=5), DAY).get("g", [])


def test_a_file_failed_for_good_when_it_is_not_offered_again():
    log = seen()
    log.take_receipt(receipt("failed"), ago(minutes=4))
    assert failed(log) == []
    assert failed(log, NOON + timedelta(minutes=1)) == ["a"]
    assert failed(log, NOON + DAY) == []


def test_a_file_that_was_made_good_did_not_fail():
    log = seen()
    log.take_receipt(receipt("failed"), ago(minutes=9))
    log.take_receipt(receipt("delivered"), ago(minutes=8))
    assert failed(log) == []


@pytest.mark.parametrize("first", ["receipt", "event"])
def test_a_file_that_is_offered_again_is_judged_by_its_later_attempt(first):
    log = seen()
    earlier, later = (file_id("lab", b"f", 1, 2, 3, attempt).hex() for attempt in (0, 1))
    if first == "event":
        log.take_event(event(attempt=1), NOON)
    log.take_receipt(receipt("failed", earlier), ago(hours=1))
    if first == "receipt":
        log.take_event(event(attempt=1), NOON)
    assert failed(log) == []
    log.take_receipt(receipt("failed", later), ago(minutes=30))
    assert failed(log) == [later]


def books(state: str, **fields: object) -> Word:
    return Word(Job(job="nightly-1", kind="watch", state=state, started=0, updated=0, **fields), 0, 0)  # type: ignore[arg-type]


def command(**params: str) -> Word:
    return Word(Command(job="nightly-1", kind="watch", desired="run", params=params, by="me", at=0), 0, 0)


def test_a_job_without_books_asks_for_a_ledger():
    log = seen()
    log.take_word(command())
    balanced, missing = log.jobs(NOON)["nightly-1"]
    assert balanced is None
    assert "ledger" in (missing or "")


@pytest.mark.parametrize(
    ("word", "balanced"),
    [
        (books("balanced", ended=int(ago(hours=1).timestamp() * 1e6)), ago(hours=1)),
        (books("failed"), None),
        (books("running", books=[Books(group="g", expected=2, delivered=2)]), NOON),
        (books("running", books=[Books(group="g", expected=2, delivered=1)]), None),
        (books("running", reason="1 waits"), None),
    ],
)
def test_a_standing_job_is_balanced_while_its_books_are_full(word, balanced):
    log = seen()
    log.take_word(command(standing="true"))
    log.take_word(word)
    assert log.jobs(NOON)["nightly-1"].balanced == balanced


def test_a_job_that_runs_on_is_not_balanced_before_it_ends():
    log = seen()
    log.take_word(command())
    log.take_word(books("running", books=[Books(group="g", expected=2, delivered=2)]))
    assert log.jobs(NOON)["nightly-1"].balanced is None


@pytest.mark.parametrize(
    "values",
    [
        {"timezone": "Europe/Atlantis"},
        {"webhook": "ftp://somewhere"},
        {"webhook": "no url"},
        {"jobs": {"x": {"due": "25:00"}}},
        {"sources": {"x": {"silent_for": "0s"}}},
        {"dead_letter_share": 1.5},
    ],
)
def test_settings_that_cannot_work_are_refused(values):
    with pytest.raises(ValidationError):
        AlarmsSettings(**values)


def test_settings_are_written_as_people_write_them():
    settings = AlarmsSettings(sources={"lab": {"silent_for": "36h"}}, jobs={"nightly-*": {"due": "06:30"}})  # type: ignore[arg-type]
    assert settings.sources["lab"].silent_for == timedelta(hours=36)
    assert settings.jobs["nightly-*"].due == time(6, 30)
    assert settings.dead_letter_share == 0.01
    assert settings.dead_letter_window == timedelta(minutes=10)
