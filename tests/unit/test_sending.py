"""The parts of sending that decide: identity, resumption, what is bounded, what a receipt means."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path

import msgspec
import pytest

from headrace.errors import ConfigError
from headrace.events import Covers, FileEvent, UploadAck
from headrace.keys import path_id
from headrace_files.sending import resume
from headrace_files.sending.budget import Budget, Closed
from headrace_files.sending.filelog import FileLog, Word
from headrace_files.sending.snapshot import NotRegular, OutsideRoot, Snapshot, open_file, printable
from headrace_files.upload.files import name_of
from headrace_files.upload.waiting import Exit, Receipt, exit_code, receipt_of
from tests.support.waiting import wait_until

NEW = bytes(16)
OLD = bytes([1]) * 16


def event(**changes: object) -> FileEvent:
    made = FileEvent(
        path_id=path_id("lab", b"path"), file=NEW, source="lab", path=b"path", state="sending", attempt=0, mtime_ns=1,
        size=100, acked=50, alg="sha256", partition=3, first=7, at=1,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def snapshot_of(path: Path, **changes: int) -> Snapshot:
    return dataclasses.replace(Snapshot.of(path.stat()), **changes)


@pytest.mark.parametrize("mark", ["inode", "size", "mtime_ns"])
def test_a_version_is_another_one_if_inode_size_or_mtime_differ(tmp_path: Path, mark: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    before = snapshot_of(file)
    after = snapshot_of(file, **{mark: getattr(before, mark) + 1})
    assert not after.same_content(before)
    assert after.mark != before.mark
    assert after.file_id("lab", b"file", 0) != before.file_id("lab", b"file", 0)


def test_a_version_stays_the_same_if_only_its_mode_changes(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    before = snapshot_of(file)
    file.chmod(0o600)
    after = snapshot_of(file)
    assert after.same_content(before)
    assert (after.mark, after.file_id("lab", b"file", 0)) == (before.mark, before.file_id("lab", b"file", 0))


def test_an_inode_of_64_bits_fits_the_event() -> None:
    values = list(Path(__file__).stat())
    values[1] = (1 << 64) - 5
    assert Snapshot.of(os.stat_result(values)).inode == -5


def test_without_inodes_a_remount_makes_no_new_version(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"same")
        os.utime(tmp_path / name, ns=(5, 5))
    one, two = (Snapshot.of((tmp_path / name).stat(), inodes=False) for name in ("one", "two"))
    assert one.file_id("lab", b"file", 0) == two.file_id("lab", b"file", 0)


def test_only_regular_files_inside_the_root_are_opened(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "real").write_bytes(b"1")
    (tmp_path / "outside").write_bytes(b"2")
    (root / "in").symlink_to("real")
    (root / "out").symlink_to("../outside")
    os.mkfifo(root / "pipe")
    base = os.fsencode(root)
    for name in (b"/real", b"/in"):
        os.close(open_file(base + name, base))
    with pytest.raises(OutsideRoot):
        open_file(base + b"/out", base)
    with pytest.raises(NotRegular):
        open_file(base + b"/pipe", base)
    os.close(open_file(base + b"/out", None))


def test_a_name_is_shown_without_control_characters() -> None:
    assert printable(b"a\nb\x1b[31m\xff\tc") == r"a\nb\x1b[31m\xff\tc"
    assert printable("漢字 é".encode()) == "漢字 é"


@pytest.mark.parametrize(
    ("previous", "choice"),
    [
        (None, "begin"),
        (event(state="announced"), "begin"),
        (event(state="aborted"), "begin"),
        (event(), "resume"),
        (event(acked=100), "resume"),
        (event(acked=0), "begin"),
        (event(first=None), "begin"),
        (event(partition=4), "begin"),
        (event(alg="sha512"), "begin"),
        (event(acked=101), "begin"),
        (event(file=OLD), "abandon"),
    ],
)
def test_an_unfinished_version_is_gone_on_with_only_if_enough_is_known_of_it(
    previous: FileEvent | None, choice: str
) -> None:
    assert resume.choose(previous, NEW, size=100, partition=3) == choice


def test_the_log_remembers_the_last_word_on_each_path() -> None:
    log = FileLog("lab")
    path = path_id("lab", b"path")
    log.note(event(file=OLD, state="announced", attempt=300))
    entry = log.entry(path)
    assert entry is not None
    assert (entry.file, entry.attempt, entry.word) == (OLD, 300, Word.ANNOUNCED)
    log.note(event())
    assert log.unfinished(path) == event()
    log.note(event(state="aborted"))
    assert log.unfinished(path) is None
    log.fail(path)
    entry = log.entry(path)
    assert entry is not None
    assert (entry.file, entry.word) == (NEW, Word.FAILED)
    assert log.entry(OLD) is None
    assert len(log) == 1


def test_what_is_under_way_is_bounded_and_waits_for_acknowledgements() -> None:
    budget = Budget(most_bytes=100, most_messages=10)
    passed: list[int] = []

    def produce() -> None:
        for number in range(30):
            budget.take(30)
            passed.append(number)

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    wait_until(lambda: len(passed) == 3)
    given = 0
    while given < 30:
        wait_until(lambda: len(passed) > given)  # noqa: B023
        assert len(passed) - given <= 3
        budget.give(30)
        given += 1
    thread.join(5)
    assert len(passed) == 30


def test_a_message_larger_than_the_allowance_passes_alone() -> None:
    budget = Budget(most_bytes=100, most_messages=10)
    budget.take(1000)
    budget.give(1000)
    budget.take(1000)


def test_a_closed_budget_ends_who_waits() -> None:
    budget = Budget(most_bytes=1, most_messages=1)
    budget.take(1)
    budget.close()
    with pytest.raises(Closed):
        budget.take(1)


def ack(*covers: Covers, last: int = 20) -> UploadAck:
    return UploadAck(group="g", item="f", partition=3, first=7, last=last, covers=list(covers), at=1)


def test_the_worst_of_a_receipt_counts() -> None:
    mixed = ack(Covers(outcome="delivered"), Covers(outcome="dead_lettered", code="name-too-long"))
    found = receipt_of(("p", "g", "f"), mixed)
    assert (found.outcome, found.code) == ("dead_lettered", "name-too-long")


def test_a_receipt_of_an_earlier_sending_is_no_answer() -> None:
    def receipt(last: int, file: bytes = NEW, partition: int = 3) -> Receipt:
        return Receipt("p", file.hex(), "g", partition, last, "delivered", None, None)

    assert receipt(last=20).answers(event(first=7))
    assert not receipt(last=6).answers(event(first=7))
    assert not receipt(last=20, file=OLD).answers(event(first=7))
    assert not receipt(last=20, partition=2).answers(event(first=7))


@pytest.mark.parametrize(
    ("outcomes", "unsent", "code"),
    [
        ([], False, Exit.DELIVERED),
        (["delivered", "unchanged"], False, Exit.DELIVERED),
        (["delivered", None], False, Exit.DETACHED),
        (["held", None], False, Exit.PUT_ASIDE),
        (["dead_lettered"], False, Exit.PUT_ASIDE),
        (["failed", "held", None], False, Exit.FAILED),
        ([], True, Exit.FAILED),
    ],
)
def test_scripts_are_told_the_worst(outcomes: list[object], unsent: bool, code: Exit) -> None:
    assert exit_code(outcomes, unsent=unsent) == code  # type: ignore[arg-type]


def test_a_name_is_relative_to_its_root_or_has_no_folders() -> None:
    assert name_of(b"/data/run/a.csv", None) == b"a.csv"
    assert name_of(b"/data/run/a.csv", b"/data") == b"run/a.csv"
    assert name_of(b"/data/run/a.csv", b"/") == b"data/run/a.csv"
    with pytest.raises(ConfigError, match="not in the folder"):
        name_of(b"/database/a.csv", b"/data")


def test_the_end_of_an_older_version_is_not_the_last_word_on_a_path() -> None:
    log = FileLog("lab")
    log.note(event(file=OLD))
    log.note(event(file=NEW))
    log.note(event(file=OLD, state="aborted"))
    assert log.unfinished(path_id("lab", b"path")) == event(file=NEW)
