"""The parts of the console that need neither Kafka nor a browser."""

from __future__ import annotations

from datetime import timedelta

import pytest
from markupsafe import Markup
from pydantic import ValidationError

from headrace.deadletters.decisions import Decision
from headrace.deadletters.letters import DeadLetter
from headrace.events import Command, Covers, FileEvent, Outcome, UploadAck
from headrace.jobs.log import Word
from headrace.keys import file_id, path_id
from headrace_ops.console import remembered
from headrace_ops.console.flow import LOOKS, Flow, Look
from headrace_ops.console.rendering import environment
from headrace_ops.console.sessions import MOST_SESSIONS, Sessions
from headrace_ops.console.settings import ConsoleSettings
from headrace_ops.positions import Committed, Positions

TOKEN = "a-token-that-nobody-guesses"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_session_begins_with_the_token_only_and_ends_by_time_or_by_logging_out():
    clock = Clock()
    sessions = Sessions(TOKEN, timedelta(hours=1), clock)
    for wrong in ("", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "ü"):
        assert sessions.begin(wrong) is None
    first, second = sessions.begin(TOKEN), sessions.begin(f" {TOKEN}\n")
    assert first is not None
    assert second is not None
    assert len({first.name, first.proof, second.name, second.proof}) == 4
    sessions.end(second.name)
    assert sessions.find(second.name) is None
    clock.now = 3599
    assert sessions.find(first.name) == first
    clock.now = 3600
    assert sessions.find(first.name) is None
    assert sessions.find("") is None


def test_of_too_many_sessions_the_oldest_end():
    sessions = Sessions(TOKEN, timedelta(hours=1))
    opened = [sessions.begin(TOKEN) for _ in range(MOST_SESSIONS + 1)]
    assert [sessions.find(each.name) is not None for each in opened if each] == [False] + [True] * MOST_SESSIONS


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("<b>", "&lt;b&gt;"),
        ("a\x1b[31m\n\x00b", r"a\x1b[31m\n\x00b"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        (b"\xff<i>", r"\xff&lt;i&gt;"),
        ("\udcff", r"\udcff"),
        ("Grüße 文", "Grüße 文"),
        (None, ""),
        (0, "0"),
        (Markup("<b>ours</b>"), "<b>ours</b>"),
    ],
)
def test_every_value_is_escaped_and_its_control_characters_are_shown(value, shown):
    assert environment().from_string("{{ value }}").render(value=value) == shown


@pytest.mark.parametrize("value", [-1, None])
def test_a_time_that_is_not_known_is_a_dash(value):
    assert environment().from_string("{{ value|time }}").render(value=value) == "&ndash;"


def test_a_time_beyond_all_calendars_is_shown_as_it_is():
    assert environment().from_string("{{ value|time }}").render(value=2**62) == str(2**62)


def look(at: float, position: int, end: int, low: int | None = None) -> Look:
    place = ("chunks", 0)
    committed = Committed(position if low is None else low, position)
    return Look(at, Positions({"h.assembler.a": {place: committed}}, {place: 0}, {place: end}))


def test_rates_are_means_over_some_seconds_and_lag_is_what_lies_before_the_position():
    flow = Flow()
    assert flow.groups() == []
    assert flow.topics() == []
    for second in range(21):
        flow.take(look(float(second), position=10 * second, end=1000 + 20 * second, low=5 * second))
    (group,) = flow.groups()
    assert (group.rate, group.lag, group.in_work) == (10.0, 1200, 100)
    (topic,) = flow.topics()
    assert (topic.rate, topic.kept, topic.partitions) == (20.0, 1400, 1)


def test_a_group_that_was_rewound_has_not_moved_backwards():
    flow = Flow()
    flow.take(look(0, 100, 100))
    flow.take(look(10, 0, 100))
    (group,) = flow.groups()
    assert (group.rate, group.lag) == (0.0, 100)


def test_history_is_bounded_and_has_gaps_where_a_group_was_not_there():
    flow = Flow()
    flow.take(Look(0.0, Positions({}, {}, {})))
    flow.take(look(1, 5, 10))
    flow.take(look(2, 9, 10))
    history = flow.history()
    assert history.times == [0.0, 1.0, 2.0]
    assert history.rates == {"h.assembler.a": [None, 0.0, 4.0]}
    assert history.lags == {"h.assembler.a": [None, 5, 1]}
    for second in range(2 * LOOKS):
        flow.take(look(3.0 + second, 9, 10))
    assert len(flow.history().times) == LOOKS


def event(name: bytes, attempt: int = 0, at: int = 0) -> FileEvent:
    return FileEvent(
        path_id=path_id("lab", name), file=file_id("lab", name, 1, 2, 3, attempt), source="lab", path=name,
        state="announced", attempt=attempt, inode=1, mtime_ns=3, size=2, partition=0, first=0, last=0, at=at,
    )  # fmt: skip


def receipt(of: FileEvent, outcome: Outcome, group: str = "h.assembler.a") -> UploadAck:
    covers = [Covers(outcome=outcome)]
    return UploadAck(
        group=group, item=of.file.hex(), file=of.file, partition=0, first=0, last=0, covers=covers, at=0
    )  # fmt: skip


def test_files_are_found_by_any_part_of_their_name_the_newest_first():
    files = remembered.Files(10)
    for number, name in enumerate((b"a/One.tif", b"b/one.csv", b"c/two.tif")):
        files.take_event(event(name, at=number), number)
    assert [sent.path for sent in files.search(b"ONE", 9)] == [b"b/one.csv", b"a/One.tif"]
    assert [sent.path for sent in files.search(b"", 1)] == [b"c/two.tif"]
    assert files.search(b"three", 9) == []


def test_no_more_files_are_remembered_than_it_was_told_whatever_order_their_evidence_comes_in():
    files = remembered.Files(3)
    events = [event(b"%d" % number, at=number) for number in range(9)]
    for number, each in enumerate(events):
        files.take_receipt(receipt(each, "delivered"))
        files.take_event(each, number)
    # Partitions are read one after another: old receipts come late, and push nothing out.
    for each in events:
        files.take_receipt(receipt(each, "delivered"))
    assert len(files) == 3
    assert [sent.path for sent in files.search(b"", 9)] == [b"8", b"7", b"6"]
    assert files.accounts([events[0].file], {}) == {}
    newest = files.accounts([each.file for each in events[6:]], {})
    assert [account.good for account in newest.values()] == [True, True, True]


def test_a_file_stands_as_verify_says_it_does():
    files = remembered.Files(10)
    failed, again = event(b"x"), event(b"x", attempt=1)
    files.take_event(failed, 0)
    files.take_receipt(receipt(failed, "failed"))
    positions = {"h.assembler.a": {"chunks": {0: 1}}, "h.archiver.b": {"chunks": {0: 0}}}
    (account,) = files.accounts([failed.file], positions).values()
    assert {group: entry.status for group, entry in account.entries.items()} == {
        "h.assembler.a": "failed", "h.archiver.b": "open",
    }  # fmt: skip
    files.take_event(again, 1)
    files.take_receipt(receipt(again, "delivered"))
    (account,) = files.accounts([failed.file], positions).values()
    assert account.entries["h.assembler.a"].settled_by == again.file


def letter(offset: int) -> DeadLetter:
    return DeadLetter(
        partition=0, offset=offset, at=offset, key=None, size=1, topic="h.chunks", source_partition=0, source_offset=1,
        source_time=0, group="h.assembler.a", stage="assembler", code="poison", message="", attempt=1, first_failed=0,
        item="x", carried=(),
    )  # fmt: skip


def decision(offset: int) -> Decision:
    return Decision("redriven", (0, offset), "h.assembler.a", "x", 1, None, 0)


def test_a_dead_letter_is_open_until_it_is_decided_on_whichever_is_read_first():
    letters = remembered.DeadLetters(10)
    letters.take_decision(decision(1))
    for offset in (0, 1, 2):
        letters.take(letter(offset))
    letters.take_decision(decision(0))
    assert [each.offset for each in letters.newest()] == [2]
    assert not letters.forgotten


def test_of_too_many_dead_letters_the_oldest_are_forgotten_and_it_says_so():
    letters = remembered.DeadLetters(2)
    for offset in range(5):
        letters.take(letter(offset))
    assert [each.offset for each in letters.newest()] == [4, 3]
    assert letters.forgotten


def test_of_too_many_jobs_the_newest_are_remembered():
    jobs = remembered.Jobs()
    for number in range(2 * remembered.JOBS_REMEMBERED + 1):
        command = Command(job=f"job-{number}", kind="watch", desired="run", by="me", at=number)
        jobs.take(Word(command, number, number))
    newest = jobs.newest()
    assert len(newest) == remembered.JOBS_REMEMBERED
    assert newest[0][0] == f"job-{2 * remembered.JOBS_REMEMBERED}"
    assert jobs.get("job-0") is None


def test_a_short_token_is_refused():
    with pytest.raises(ValidationError):
        ConsoleSettings(token="short")  # type: ignore[arg-type]
    assert ConsoleSettings(token=TOKEN).host == "127.0.0.1"  # type: ignore[arg-type]
