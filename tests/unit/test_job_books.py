"""The books of a job are sets: what comes twice, late or in another order changes nothing; and they always add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.events import Books, Command, Covers, FileEvent, Job, UploadAck
from headrace.jobs.assessment import Exit, Wanted, assess, exit_code
from headrace.jobs.books import OUTCOMES, FileBooks
from headrace.keys import encode_key, file_id

SITE, COPY = "headrace.assembler.site", "headrace.archiver.copy"


def version(number: int, attempt: int = 0) -> bytes:
    return file_id("s", b"%d" % number, 1, 10, 5, attempt)


def said(number: int, state: str = "announced", attempt: int = 0) -> FileEvent:
    return FileEvent(
        path_id=b"p" * 16, file=version(number, attempt), source="s", path=b"%d" % number, state=state,  # type: ignore[arg-type]
        attempt=attempt, inode=1, mtime_ns=5, size=10, partition=0, at=1, job="j",
    )  # fmt: skip


def receipt(number: int, outcome: str = "delivered", group: str = SITE, last: int = 1, attempt: int = 0) -> UploadAck:
    file = version(number, attempt)
    return UploadAck(
        group=group, item=file.hex(), job="j", file=file, partition=0, first=0, last=last,
        covers=[Covers(outcome=outcome)], at=last,  # type: ignore[arg-type]
    )  # fmt: skip


def dead_message(number: int, group: str = SITE) -> UploadAck:
    file = version(number)
    return UploadAck(
        group=group, item="dead:0:7", file=file, partition=0, first=7, last=7, covers=[Covers(outcome="dead_lettered")],
        at=7,
    )  # fmt: skip


def decision(item: str, offset: int, verdict: str = "discarded", group: str = SITE) -> UploadAck:
    """What `headrace dlq` leaves on the log."""
    return UploadAck(
        group="headrace.dlq", item="dead:0:9", partition=0, first=9, last=9,
        covers=[Covers(outcome="unchanged", code=verdict)], where=encode_key((group, item, str(offset))).decode(),
        at=99,
    )  # fmt: skip


def command(files: int | None = None, *, standing: bool = False, desired: str = "run", groups: Sequence[str] = (SITE,)):
    params = Wanted(tuple(groups), files, standing).params()
    return Command(job="j", kind="upload", desired=desired, params=params, by="me", at=1)  # type: ignore[arg-type]


@dataclass
class Filled:
    books: FileBooks

    @classmethod
    def of(cls, *evidence: FileEvent | UploadAck) -> Filled:
        books = FileBooks()
        for each in evidence:
            if isinstance(each, FileEvent):
                books.take_event(each)
            else:
                books.take_receipt(each)
        return cls(books)

    def book(self, group: str = SITE) -> Books:
        return self.books.book(group, None)


numbers = st.integers(0, 5)
acks = st.lists(
    st.one_of(
        st.builds(
            receipt,
            numbers,
            st.sampled_from(OUTCOMES),
            st.sampled_from([SITE, COPY]),
            st.integers(1, 4),
            st.integers(0, 2),
        ),
        st.builds(dead_message, numbers, st.sampled_from([SITE, COPY])),
        st.builds(
            decision,
            st.one_of(st.just("dead:0:7"), numbers.map(lambda number: version(number).hex())),
            st.integers(0, 4),
            st.sampled_from(["discarded", "redriven"]),
        ),
    ),
    max_size=20,
)
events = st.lists(
    st.builds(said, numbers, st.sampled_from(["sending", "announced", "aborted", "expired"]), st.integers(0, 2)),
    max_size=20,
)


@given(events, acks, st.data())
def test_doubled_and_reordered_receipts_change_nothing(
    spoken: list[FileEvent], receipts: list[UploadAck], data: st.DataObject
):
    straight = Filled.of(*spoken, *receipts)
    shuffled = data.draw(
        st.permutations(receipts + data.draw(st.lists(st.sampled_from(receipts)) if receipts else st.just([])))
    )
    cut = data.draw(st.integers(0, len(shuffled)))
    other = Filled.of(*shuffled[:cut], *spoken, *shuffled[cut:])
    for group in (SITE, COPY):
        assert other.book(group) == straight.book(group)
        assert other.books.unsettled(group) == straight.books.unsettled(group)
    for wanted in (command(), command(3), command(standing=True), command(desired="stop")):
        assert assess(wanted, other.books).state == assess(wanted, straight.books).state


@given(events, acks)
def test_events_read_again_from_the_beginning_change_nothing(spoken: list[FileEvent], receipts: list[UploadAck]):
    once, twice = Filled.of(*spoken, *receipts), Filled.of(*spoken, *receipts, *spoken, *receipts)
    assert twice.books.words() == once.books.words()
    assert twice.book() == once.book()


@given(events, acks, st.integers(0, 8), st.booleans())
def test_a_job_that_is_done_has_books_that_add_up(
    spoken: list[FileEvent], receipts: list[UploadAck], files: int, stop: bool
):
    filled = Filled.of(*spoken, *receipts)
    assessment = assess(command(files, desired="stop" if stop else "run", groups=(SITE, COPY)), filled.books)
    if assessment.state in ("balanced", "failed", "stopped"):
        for book in assessment.books:
            assert book.expected == book.delivered + book.unchanged + book.dead_lettered + book.held + book.failed


def test_a_delivered_receipt_wins_whenever_it_comes():
    assert Filled.of(said(1), receipt(1, last=1), receipt(1, "failed", last=9)).book().delivered == 1


def test_of_two_bad_receipts_the_later_one_counts():
    book = Filled.of(said(1), receipt(1, "dead_lettered", last=9), receipt(1, "failed", last=1)).book()
    assert (book.dead_lettered, book.failed) == (1, 0)


def test_a_failed_version_that_a_later_attempt_made_good_is_not_held_against_the_job():
    filled = Filled.of(said(1), receipt(1, "failed"), said(1, attempt=1), receipt(1, attempt=1))
    assessment = assess(command(2), filled.books)
    assert assessment.state == "balanced"
    assert (assessment.books[0].delivered, assessment.books[0].unchanged, assessment.books[0].failed) == (1, 1, 0)


def test_a_later_attempt_in_another_group_makes_nothing_good():
    filled = Filled.of(said(1), receipt(1, "failed"), said(1, attempt=1), receipt(1, attempt=1, group=COPY))
    assert filled.book().failed == 1


def test_a_dead_message_kills_its_file_unless_it_is_still_being_sent():
    assert Filled.of(said(1), dead_message(1)).book().dead_lettered == 1
    assert Filled.of(said(1, "sending"), dead_message(1)).book().dead_lettered == 0
    assert Filled.of(said(1), dead_message(1), receipt(1)).book().dead_lettered == 0


def test_a_dead_letter_that_was_discarded_is_dealt_with_until_it_dies_again():
    item = version(1).hex()
    dead = receipt(1, "dead_lettered", last=5)
    assert Filled.of(said(1), dead, decision(item, 5)).book().unchanged == 1
    assert Filled.of(said(1), decision(item, 5), dead).book().unchanged == 1
    again = Filled.of(said(1), dead, decision(item, 5), receipt(1, "dead_lettered", last=8))
    assert again.book().dead_lettered == 1
    assert Filled.of(said(1), dead, decision(item, 5, "redriven")).book().dead_lettered == 1


def test_a_dead_message_that_was_discarded_kills_its_file_no_longer():
    filled = Filled.of(said(1), dead_message(1), decision("dead:0:7", 7))
    assert (filled.book().dead_lettered, filled.books.unsettled(SITE)) == (0, 1)


def test_a_receipt_that_was_taken_back_has_to_be_given_anew():
    filled = Filled.of(said(1), receipt(1))
    filled.books.withdraw(SITE, version(1))
    assert (filled.book().delivered, filled.books.unsettled(SITE)) == (0, 1)
    filled.books.take_receipt(receipt(1, "failed"))
    assert filled.book().failed == 1


def test_a_job_waits_until_its_source_has_announced_all():
    filled = Filled.of(said(1), receipt(1))
    assert assess(command(), filled.books).state == "running"
    running = assess(command(2), filled.books)
    assert (running.state, running.reason) == ("running", "1 not announced")
    assert assess(command(1), filled.books).state == "balanced"


def test_a_job_waits_for_every_group_that_it_names_and_for_no_other():
    filled = Filled.of(said(1), receipt(1), said(2), receipt(2), receipt(1, group=COPY))
    assert assess(command(2), filled.books).state == "balanced"
    both = assess(command(2, groups=(SITE, COPY)), filled.books)
    assert (both.state, both.reason) == ("running", f"1 wait for {COPY}")


def test_a_file_that_changed_while_it_was_sent_is_accounted_for_without_a_receipt():
    filled = Filled.of(said(1, "aborted"), said(1, attempt=1), receipt(1, attempt=1))
    assessment = assess(command(1), filled.books)
    assert assessment.state == "balanced"
    assert (assessment.books[0].expected, assessment.books[0].unchanged) == (2, 1)


def test_a_begun_file_that_every_group_gave_up_holds_nothing_up():
    begun = said(2, "sending")
    assert assess(command(1), Filled.of(said(1), receipt(1), begun).books).state == "running"
    given_up = Filled.of(said(1), receipt(1), begun, receipt(2, "failed"))
    assert assess(command(1), given_up.books).state == "failed"


def test_a_standing_job_never_ends_and_balances_per_finished_file():
    filled = Filled.of(said(1), receipt(1), said(2, "sending"))
    standing = assess(command(standing=True), filled.books)
    assert (standing.state, standing.reason, standing.books[0].expected) == ("running", "1 being sent", 1)
    assert assess(command(standing=True, desired="stop"), filled.books).state == "stopped"


def test_a_job_that_is_to_stop_is_done_when_what_was_announced_is_accounted_for():
    stopping = assess(command(desired="stop"), Filled.of(said(1), said(2), receipt(1)).books)
    assert (stopping.state, stopping.reason) == ("stopping", f"1 wait for {SITE}")


@pytest.mark.parametrize("files", ["-1", "many", "1" * 30, "²", ""])
def test_a_malformed_number_of_files_was_not_said(files: str):
    wanted = Command(job="j", kind="upload", desired="run", params={"files": files}, by="x", at=1)
    assert Wanted.of(wanted).files is None


def ended(state: str, expected: int | None = 1, **sums: int) -> Job:
    books = [Books(group=SITE, expected=expected, **sums)]
    return Job(job="j", kind="upload", state=state, books=books, started=1, updated=1)  # type: ignore[arg-type]


def test_exit_codes_tell_scripts_what_became_of_a_job():
    assert exit_code(ended("balanced", delivered=1), command(1)) is Exit.DELIVERED
    assert exit_code(ended("failed", failed=1), command(1)) is Exit.FAILED
    assert exit_code(ended("balanced", dead_lettered=1), command(1)) is Exit.PUT_ASIDE
    assert exit_code(ended("balanced", held=1), command(1)) is Exit.PUT_ASIDE
    assert exit_code(ended("running"), command(1)) is Exit.DETACHED
    assert exit_code(ended("stopped", delivered=1), command(desired="stop")) is Exit.FAILED
    assert exit_code(ended("stopped", delivered=1), command(desired="stop", standing=True)) is Exit.DELIVERED
    assert exit_code(ended("balanced", expected=None, failed=1), command(1)) is Exit.DELIVERED


def test_a_job_whose_source_gave_up_fails_when_the_rest_is_accounted_for_and_may_run_again() -> None:
    filled = Filled.of(said(0), said(1, "sending"))
    params = Wanted((SITE,), 1, problem="the host key is another").params()
    gave_up = Command(job="j", kind="upload", desired="run", params=params, by="me", at=1)
    assert assess(gave_up, filled.books).state == "running"
    filled.books.take_receipt(receipt(0))
    found = assess(gave_up, filled.books)
    assert (found.state, found.reason) == ("failed", "the host key is another")
    assert assess(command(), filled.books).state == "running"
