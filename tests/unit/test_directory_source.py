"""What the source of a folder decides, without Kafka and without waiting."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.events import FileEvent, FileState
from headrace.keys import path_id
from headrace_files.directory_source.filters import Filter
from headrace_files.directory_source.scan import Walk, look_at_file
from headrace_files.directory_source.settling import Settling
from headrace_files.directory_source.tree import Tree
from headrace_files.sending.filelog import FileLog
from headrace_files.sending.jobs import Job, Outcome, Result
from headrace_files.sending.snapshot import Snapshot

LONG_AGO = 1e6


def test_an_old_file_is_taken_at_once_and_a_new_one_when_it_was_still() -> None:
    settling = Settling(3.0)
    settling.look(b"old", 1, now=10.0, still_for=LONG_AGO)
    settling.look(b"new", 1, now=10.0, still_for=1.0)
    assert settling.due(10.0) == [(b"old", 1)]
    assert settling.due(11.9) == []
    assert settling.due(12.0) == [(b"new", 1)]


def test_every_change_begins_the_wait_anew_whatever_the_clock_of_the_file_server_says() -> None:
    settling = Settling(3.0)
    settling.look(b"file", 1, now=10.0, still_for=-100.0)
    settling.look(b"file", 2, now=12.0, still_for=LONG_AGO)
    settling.look(b"file", 3, now=14.0, still_for=LONG_AGO)
    settling.look(b"file", 3, now=16.0, still_for=LONG_AGO)
    assert settling.due(16.9) == []
    assert settling.due(17.0) == [(b"file", 3)]
    assert len(settling) == 0


def test_a_file_that_is_gone_is_waited_for_no_longer() -> None:
    settling = Settling(3.0)
    settling.look(b"file", 1, now=10.0, still_for=0.0)
    settling.forget(b"file")
    assert settling.due(100.0) == []


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 2), st.floats(0, 5), st.floats(0, 10))))
def test_no_file_is_taken_that_changed_within_the_settle_time(
    sights: list[tuple[bytes, int, float, float]],
) -> None:
    settling = Settling(3.0)
    now = 0.0
    marks: dict[bytes, int] = {}
    changed: dict[bytes, float] = {}
    for path, mark, pause, still_for in sights:
        now += pause
        for taken, taken_mark in settling.due(now):
            assert marks[taken] == taken_mark
            assert taken not in changed or now >= changed[taken] + 3.0
            marks.pop(taken)
        if path in marks and marks[path] != mark:
            changed[path] = now
        elif path not in marks:
            changed.pop(path, None)
        marks[path] = mark
        settling.look(path, mark, now, still_for)


@pytest.mark.parametrize(
    ("include", "exclude", "taken"),
    [
        ([], [], {b"a.csv", b"raw/b.csv", b".hidden", b"new\nline.csv", b"\xff.csv"}),
        ([r"\.csv$"], [], {b"a.csv", b"raw/b.csv", b"new\nline.csv", b"\xff.csv"}),
        ([r"^raw/", r"^\."], [], {b"raw/b.csv", b".hidden"}),
        ([], [r"(^|/)\."], {b"a.csv", b"raw/b.csv", b"new\nline.csv", b"\xff.csv"}),
        ([r"^new.line"], [], {b"new\nline.csv"}),
        ([], ["/", "\udcff"], {b"a.csv", b".hidden", b"new\nline.csv"}),
    ],
)
def test_patterns_choose_by_any_part_of_the_relative_path(
    include: list[str], exclude: list[str], taken: set[bytes]
) -> None:
    accept = Filter(include, exclude)
    names = {b"a.csv", b"raw/b.csv", b".hidden", b"new\nline.csv", b"\xff.csv"}
    assert {name for name in names if accept.takes(name)} == taken


def test_a_walk_that_could_not_read_a_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    walk = Walk(os.fsencode(tmp_path))
    assert [path for path, _ in walk.files()] == [b"file"]
    assert walk.complete
    gone = Walk(os.fsencode(tmp_path / "gone"))
    assert list(gone.files()) == []
    assert not gone.complete


class World:
    """A folder, and a tree that knows what the log says of it."""

    def __init__(self, root: Path, attempts: int = 2) -> None:
        self.root = root
        self.log = FileLog("lab")
        self.tree = Tree(os.fsencode(root), "lab", self.log, Settling(3.0), Filter(), attempts=attempts)

    def write(self, content: bytes) -> Snapshot:
        (self.root / "file").write_bytes(content)
        os.utime(self.root / "file", ns=(len(content), len(content)))
        return Snapshot.of((self.root / "file").stat())

    def says(self, state: FileState, snapshot: Snapshot, attempt: int = 0) -> FileEvent:
        event = FileEvent(
            path_id=path_id("lab", b"file"), file=snapshot.file_id("lab", b"file", attempt), source="lab",
            path=b"file", state=state, attempt=attempt, mtime_ns=snapshot.mtime_ns, partition=0, at=0,
        )  # fmt: skip
        self.log.note(event)
        return event

    def next(self) -> Job | None:
        status = look_at_file(os.fsencode(self.root), b"file")
        if status is not None:
            self.tree.seen(b"file", status, 0.0, LONG_AGO * 1e4)
        found = self.tree.next_ready(1e9)
        if found is None:
            return None
        return self.tree.job(*found, look_at_file(os.fsencode(self.root), b"file"), 0.0)

    def ends(self, job: Job, result: Result, event: FileEvent | None) -> None:
        status = look_at_file(os.fsencode(self.root), b"file")
        assert status is not None
        self.tree.ended(Outcome(job, result, Snapshot.of(status), event), 0.0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_file_that_the_log_does_not_know_is_sent_and_then_never_again(world: World) -> None:
    snapshot = world.write(b"1")
    job = world.next()
    assert job is not None
    assert (job.attempt, job.previous) == (0, None)
    assert world.next() is None
    world.ends(job, Result.ANNOUNCED, world.says("announced", snapshot))
    assert world.next() is None


@pytest.mark.parametrize(
    ("state", "attempt"), [("announced", None), ("sending", 0), ("aborted", 1)]
)  # an aborted version gets a new id: readers have closed the old one
def test_what_the_log_says_of_the_same_version_decides(world: World, state: FileState, attempt: int | None) -> None:
    event = world.says(state, world.write(b"1"))
    job = world.next()
    assert (None if job is None else job.attempt) == attempt
    if job is not None:
        assert job.previous == (event if state == "sending" else None)


def test_another_version_is_sent_from_its_first_attempt_and_the_unfinished_one_is_handed_over(world: World) -> None:
    old = world.says("sending", world.write(b"1"), attempt=1)
    world.write(b"22")
    job = world.next()
    assert job is not None
    assert (job.attempt, job.previous) == (0, old)


def test_what_receivers_fail_is_offered_again_a_limited_number_of_times(world: World) -> None:
    snapshot = world.write(b"1")
    for attempt in range(3):
        job = world.next()
        assert job is not None
        assert job.attempt == attempt
        event = world.says("announced", snapshot, attempt)
        world.ends(job, Result.ANNOUNCED, event)
        world.tree.failed(event.path_id, event.file)
        assert world.tree.take_failed() == [b"file"]
    assert world.next() is None
    assert world.tree.given_up == {b"file"}


def test_a_failure_of_an_older_version_is_none_of_ours(world: World) -> None:
    old = world.says("announced", world.write(b"1"))
    world.says("announced", world.write(b"22"))
    world.tree.failed(old.path_id, old.file)
    assert world.next() is None


def test_a_failure_that_comes_before_the_announcement_is_kept(world: World) -> None:
    snapshot = world.write(b"1")
    job = world.next()
    assert job is not None
    assert world.tree.knows(path_id("lab", b"file"))
    world.tree.failed(path_id("lab", b"file"), snapshot.file_id("lab", b"file", 0))
    world.ends(job, Result.ANNOUNCED, world.says("announced", snapshot))
    assert world.tree.take_failed() == [b"file"]
    again = world.next()
    assert again is not None
    assert again.attempt == 1


def test_files_that_vanish_without_an_event_are_forgotten_by_the_scans(tmp_path: Path) -> None:
    world = World(tmp_path)

    def scan(names: list[str]) -> int:
        world.tree.begin_scan()
        for name in names:
            world.tree.seen(os.fsencode(name), (tmp_path / "any").stat(), 0.0, 0.0)
        world.tree.end_scan(complete=True)
        return world.tree.settled

    (tmp_path / "any").write_bytes(b"")
    world.tree = Tree(os.fsencode(tmp_path), "lab", world.log, Settling(3.0), Filter(), new_only=True)
    assert scan(["a", "b", "c"]) == 3
    scan(["a"])
    assert scan(["a"]) == 1


def test_a_vanished_file_that_was_begun_is_handed_over_to_be_closed(world: World) -> None:
    begun = world.says("sending", world.write(b"1"))
    status = look_at_file(os.fsencode(world.root), b"file")
    assert status is not None
    world.tree.seen(b"file", status, 0.0, LONG_AGO * 1e4)
    found = world.tree.next_ready(1e9)
    assert found is not None
    (world.root / "file").unlink()
    job = world.tree.job(*found, None, 0.0)
    assert job is not None
    assert job.previous == begun


def test_a_begun_version_whose_file_no_scan_met_is_lost(world: World) -> None:
    begun = world.says("sending", world.write(b"1"))
    assert world.tree.lost() == [begun]
    assert world.next() is not None
    assert world.tree.lost() == []
