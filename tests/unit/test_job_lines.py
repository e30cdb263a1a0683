"""Books of records: lines of files as sets, in which nothing counts twice and nothing is lost."""

from __future__ import annotations

from pyroaring import BitMap64

from headrace.events import Command, Covers, FileEvent, Job, UploadAck
from headrace.jobs.assessment import Assessment, Exit, Wanted, assess, exit_code
from headrace.jobs.books import FileBooks

FAN, STUDENTS = "headrace.csv_fanout.records", "headrace.students.art"
FILE = b"f" * 16
WANTED = Wanted((FAN,), 1, records=(("art_students", STUDENTS),))


def announced(file: bytes = FILE) -> FileEvent:
    return FileEvent(
        path_id=b"p" * 16, file=file, source="s", path=b"x", state="announced", attempt=0, mtime_ns=1, partition=0,
        dataset="art_students", job="j", at=1,
    )  # fmt: skip


def covers(outcome: str, *lines: int, code: str | None = None) -> Covers:
    return Covers(outcome=outcome, lines=bytes(BitMap64(lines).serialize()), count=len(lines), code=code)  # type: ignore[arg-type]


def fanned(*lines: int, bad: tuple[int, ...] = ()) -> UploadAck:
    told = [covers("delivered", *lines), *([covers("dead_lettered", *bad, code="blank-line")] if bad else [])]
    return UploadAck(group=FAN, item=FILE.hex(), job="j", file=FILE, partition=0, first=0, last=0, covers=told, at=1)


def read(part: str, *told: Covers, at: int = 2) -> UploadAck:
    return UploadAck(
        group=STUDENTS, item=f"{FILE.hex()}/{part}", job="j", file=FILE, partition=0, first=0, last=0,
        covers=list(told), at=at,
    )  # fmt: skip


def job_of(found: Assessment) -> Job:
    return Job(job="j", kind="art-load", state=found.state, books=found.books, started=1, updated=1)


def assessed(*evidence: FileEvent | UploadAck, desired: str = "run", wanted: Wanted = WANTED):
    books = FileBooks()
    for each in evidence:
        if isinstance(each, FileEvent):
            books.take_event(each)
        else:
            books.take_receipt(each)
    command = Command(job="j", kind="art-load", desired=desired, params=wanted.params(), by="me", at=1)  # type: ignore[arg-type]
    return command, assess(command, books)


def test_a_load_is_done_when_every_record_is_accounted_for_and_not_before():
    _, found = assessed(announced(), fanned(2, 3, 4), read("0", covers("delivered", 2), covers("unchanged", 3)))
    assert (found.state, found.reason) == ("running", f"1 wait for {STUDENTS}")
    command, found = assessed(
        announced(), fanned(2, 3, 4), read("0", covers("delivered", 2)), read("1", covers("unchanged", 3, 4))
    )
    assert found.state == "balanced"
    book = next(book for book in found.books if book.group == STUDENTS)
    assert (book.expected, book.delivered, book.unchanged) == (3, 1, 2)
    assert exit_code(job_of(found), command) is Exit.DELIVERED


def test_how_many_records_there_are_is_unknown_until_every_file_is_fanned_out():
    _, found = assessed(announced(), read("0", covers("delivered", 2)))
    assert found.state == "running"
    assert next(book for book in found.books if book.group == STUDENTS).expected is None


def test_the_same_receipts_again_and_rows_that_came_back_change_no_sum():
    first = read("0", covers("delivered", 2), covers("dead_lettered", 3, code="art-student-refused"))
    again = UploadAck(
        group=STUDENTS, item="0:77", job="j", file=FILE, partition=0, first=77, last=77,
        covers=[covers("delivered", 3)], at=9,
    )  # fmt: skip
    for order in ([first, again, first], [again, first], [first, first, again, again]):
        _, found = assessed(announced(), fanned(2, 3), *order)
        book = next(book for book in found.books if book.group == STUDENTS)
        assert (book.expected, book.delivered, book.dead_lettered) == (2, 2, 0)


def test_held_rows_and_bad_rows_end_a_job_with_3():
    command, found = assessed(
        announced(), fanned(2, 3, bad=(4,)), read("0", covers("delivered", 2), covers("held", 3, code="unknown-school"))
    )
    assert found.state == "balanced"
    assert exit_code(job_of(found), command) is Exit.PUT_ASIDE


def test_a_part_that_was_given_up_fails_the_job():
    command, found = assessed(announced(), fanned(2, 3), read("0", Covers(outcome="failed", code="incomplete")))
    assert found.state == "failed"
    assert next(book for book in found.books if book.group == STUDENTS).failed == 2
    assert exit_code(job_of(found), command) is Exit.FAILED


def test_a_file_that_has_no_records_leaves_nothing_to_wait_for():
    _, found = assessed(announced(), fanned(bad=(2,)))
    assert found.state == "balanced"


def test_what_a_command_asks_for_survives_the_log():
    command = Command(job="j", kind="k", desired="run", params=WANTED.params(), by="me", at=1)
    assert Wanted.of(command) == WANTED
