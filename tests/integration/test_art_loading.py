"""Nights of a state, from the files to ART: the scenarios of the reference, section 5.7, by their numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker
from tests.support.art_loading import (
    Dump,
    Loading,
    ServedArt,
    as_csv,
    check,
    rows_of,
    saved_more_than_once,
    schools_of,
    served_art,
)
from tests.support.running import dead_letters, header, running

pytestmark = pytest.mark.kafka


@pytest.fixture
def art() -> Iterator[ServedArt]:
    with served_art() as served:
        yield served


@pytest.fixture
def loading(broker: EmbeddedBroker, prefix: str, tmp_path: Path, art: ServedArt) -> Loading:
    return Loading(broker.bootstrap, prefix, tmp_path, art)


def test_a1_every_student_is_at_art_once_and_every_line_is_accounted_for(loading: Loading, tmp_path: Path) -> None:
    dump = Dump.make(tmp_path, rows=2_000)
    schools, students = loading.feed(dump)
    with loading.running(ceiling=600, art={"batch_students": 200}):
        loading.wait(students)
    assert check(loading, students, dump) == []
    assert not saved_more_than_once(loading.art)
    assert loading.lines(students).counts == {"delivered": 2_000}
    assert schools is not None
    assert loading.lines(schools, "entities").counts == {"delivered": 25}
    assert 0 < loading.art.counters()["backlog_highest"] <= 600


def test_a2_the_same_file_next_night_asks_nothing_of_art_but_its_schools(loading: Loading, tmp_path: Path) -> None:
    dump = Dump.make(tmp_path, rows=1_000, duplicates=0.02)
    _, first = loading.feed(dump, "one")
    with loading.running():
        loading.wait(first)
        posts = loading.art.requests("batch_post")
        schools, second = loading.feed(dump, "two")
        loading.wait(second)
    assert check(loading, second, dump) == []
    assert loading.art.requests("batch_post") == posts
    assert set(loading.lines(second).counts) <= {"unchanged", "unchanged:superseded"}
    assert schools is not None
    assert loading.lines(schools, "entities").counts == {"unchanged": 25}
    assert loading.art.requests("institution_put") == 0


def test_a3_exactly_the_changed_and_the_new_are_sent_and_nobody_is_deleted(loading: Loading, tmp_path: Path) -> None:
    before = Dump.make(tmp_path, "20261105", rows=1_000)
    after = Dump.make(tmp_path, "20261106", rows=1_000, changed=0.01, removed=10, added=10)
    _, first = loading.feed(before, "one")
    with loading.running():
        loading.wait(first)
        sent = loading.art.counted("students", "submitted")
        gone = {row["SSID"] for _, row in rows_of(before.students)} - {
            row["SSID"] for _, row in rows_of(after.students)
        }
        left = {student["ssid"]: student for student in loading.art.table("students") if student["ssid"] in gone}
        _, second = loading.feed(after, "two")
        loading.wait(second)
    assert len(left) == 10
    assert check(loading, second, after, before=left) == []
    changed = after.summary.changed + 10
    assert loading.lines(second).counts == {"delivered": changed, "unchanged": 1_000 - changed}
    assert loading.art.counted("students", "submitted") - sent == changed


def test_a9_rows_that_art_would_refuse_are_dead_letters_with_line_and_reason_and_the_rest_is_loaded(
    loading: Loading, tmp_path: Path
) -> None:
    dump = Dump.make(tmp_path, rows=200)
    rows = [row for _, row in rows_of(dump.students)]
    rows[10]["DateofBirth"] = "11/30/2009"
    rows[20]["FirstName"] = "x" * 36
    rows[30]["Sex"] = "X"
    rows[40]["SmarterStudentID"] = "with blank"
    rows[50]["LanguageCode"] = "english"
    dump.students = as_csv(rows)
    dump.summary.broken_lines = [(1, line, "") for line in (12, 22, 32, 42, 52)]
    _, students = loading.feed(dump)
    with loading.running():
        loading.wait(students)
    assert check(loading, students, dump) == []
    assert loading.lines(students).counts == {
        "delivered": 195, "dead_lettered:art-field-not-a-date": 1, "dead_lettered:art-field-too-long": 1,
        "dead_lettered:art-field-unknown-code": 2, "dead_lettered:art-field-not-alphanumeric": 1,
    }  # fmt: skip
    told = {header(letter, "dlq-message") for letter in dead_letters(loading.cluster)}
    assert any("birthDate" in str(text) for text in told)
    # Records have no headers: the letter has the job that the record names.
    assert {header(letter, "hr-job") for letter in dead_letters(loading.cluster)} == {"night"}
    assert not any("11/30" in str(text) or "blank" in str(text).replace("blanks", "") for text in told)


def test_a13_students_of_a_school_that_is_missing_are_held_and_a14_go_out_when_it_appears(
    loading: Loading, tmp_path: Path
) -> None:
    without = Dump.make(tmp_path, "20261105", rows=500, missing_schools=1)
    complete = Dump.make(tmp_path, "20261106", rows=500)
    missing = set(schools_of(complete.schools)) - set(schools_of(without.schools))
    theirs = [
        row for _, row in rows_of(without.students)
        if f"{row['ResponsibleDistrictIdentifier']}/{row['ResponsibleSchoolIdentifier']}" in missing
    ]  # fmt: skip
    assert theirs
    _, first = loading.feed(without, "one")
    with loading.running():
        loading.wait(first)
        assert check(loading, first, without, held=len(theirs)) == []
        assert loading.lines(first).counts["held:unknown-school"] == len(theirs)
        assert loading.art.table("unlinked") == []
        _, second = loading.feed(complete, "two")
        loading.wait(second)
    assert check(loading, second, complete) == []
    assert loading.lines(second).counts == {"delivered": len(theirs), "unchanged": 500 - len(theirs)}


@pytest.mark.parametrize(
    ("policy", "outcome"), [("dead-letter", "dead_lettered:unknown-school"), ("unlinked", "delivered")]
)
def test_a13_the_policy_for_unknown_schools_may_be_another(
    loading: Loading, tmp_path: Path, policy: str, outcome: str
) -> None:
    dump = Dump.make(tmp_path, rows=100, unknown_schools=0.1)
    _, students = loading.feed(dump)
    with loading.running(unknown_schools=policy):
        loading.wait(students)
    counts = loading.lines(students).counts
    assert sum(counts.values()) == 100
    assert counts[outcome] == (100 if policy == "unlinked" else 10)
    assert len(loading.art.table("unlinked")) == (10 if policy == "unlinked" else 0)


def test_a17_a_renamed_school_is_renamed_a_moved_one_is_reported_and_a_long_name_is_cut(
    loading: Loading, tmp_path: Path
) -> None:
    before = Dump.make(tmp_path, "20261105", rows=10)
    rows = [row for _, row in rows_of(before.schools)]
    schools = [row for row in rows if row["School Code"] != row["County-District Code"]]
    schools[0]["School Name"] = "A new name"
    schools[1]["School Name"] = "n" * 75
    districts = [row["County-District Code"] for row in rows if row["School Code"] == row["County-District Code"]]
    moved = schools[2]
    old = moved["County-District Code"]
    moved["County-District Code"] = next(each for each in districts if each != old)
    after = Dump(before.students, as_csv(rows), before.summary)
    first, _ = loading.feed(before, "one")
    assert first is not None
    with loading.running():
        loading.wait(first, stage="entities")
        second, _ = loading.feed(after, "two")
        assert second is not None
        loading.wait(second, stage="entities")
    counts = loading.lines(second, "entities").counts
    assert counts == {"delivered": 2, "held:art-parent-changed": 1, "unchanged": 22}
    stored = {each["entityId"]: each for each in loading.art.table("institutions")}
    assert stored[schools[0]["Auth CDS Code"]]["entityName"] == "A new name"
    assert stored[schools[1]["Auth CDS Code"]]["entityName"] == "n" * 60
    assert stored[moved["Auth CDS Code"]]["parentEntityId"] == f"{old}0000000"
    assert loading.art.requests("institution_put") == 2


def test_a_student_that_is_listed_twice_is_sent_twice_once_and_its_last_row_counts(
    loading: Loading, tmp_path: Path
) -> None:
    dump = Dump.make(tmp_path, rows=50)
    rows = [row for _, row in rows_of(dump.students)]
    twice = {**rows[3], "FirstName": "Later"}
    later = Dump(as_csv([*rows, twice]), dump.schools, dump.summary)
    third = Dump(as_csv([*rows, {**twice, "FirstName": "Latest"}]), dump.schools, dump.summary)
    fourth = dump
    sent = []
    with loading.running():
        for night, each in enumerate((later, later, third, fourth)):
            _, students = loading.feed(each, f"night-{night}")
            loading.wait(students)
            assert check(loading, students, each) == []
            sent.append(int(loading.art.counted("students", "submitted")))
    assert [after - before for before, after in itertools.pairwise(sent)] == [0, 1, 1]


def test_two_copies_share_the_students_and_send_none_twice(loading: Loading, tmp_path: Path) -> None:
    dump = Dump.make(tmp_path, rows=1_500)
    _, students = loading.feed(dump)
    more = {"ceiling": 300, "art": {"batch_students": 50}}
    with (
        running(loading.students(**more), loading.cluster, instance="one"),
        running(loading.students(**more), loading.cluster, instance="two"),
        running(loading.entities(), loading.cluster, instance="three"),
        running(loading.entities(), loading.cluster, instance="four"),
        running(loading.fan_out(), loading.cluster),
    ):
        loading.wait(students)
    assert check(loading, students, dump) == []
    assert loading.art.counters()["backlog_highest"] <= 300
