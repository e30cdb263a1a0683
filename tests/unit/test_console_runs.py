"""Commands that the console runs: once for two clicks, bounded, ended and cleaned up with it; and what they say."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import orjson
import pytest
import structlog

from headrace.jobs.progress import StageProgress
from headrace_ops.console.output import LINES, Growing, Output, log_line, tail
from headrace_ops.console.runs import MOST_REMEMBERED, MOST_RUNNING, NoFolderForRuns, Runs, TooManyRuns
from tests.support.waiting import wait_until

WAITS = """
import signal, sys
signal.signal(signal.SIGINT, lambda *_: sys.exit(5))
print("here", flush=True)
signal.pause()
"""


@pytest.fixture(autouse=True)
def plain_log() -> None:
    """Other tests run commands in this process, whose log goes to what is closed by now."""
    structlog.reset_defaults()


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    found = Runs(tmp_path / "console", [sys.executable, "-c"], {})
    yield found
    found.close()


def words(*given: str) -> Callable[[Path], Sequence[str]]:
    return lambda _files: given


def test_the_same_command_runs_once_and_is_told_to_stop_once(runs: Runs) -> None:
    first = runs.start("one", words(WAITS), job="night")
    wait_until(lambda: list(first.look().said) == ["here"])
    assert runs.start("one", words(WAITS), job="night") is first
    runs.stop(first)
    runs.stop(first)
    assert wait_until(lambda: first.exit_code) == 5
    assert runs.start("one", words(WAITS), job="night") is not first


def test_no_more_run_at_once_than_a_machine_bears_and_the_oldest_are_forgotten_with_their_files(runs: Runs) -> None:
    running = [runs.start("waits", words(WAITS, str(number))) for number in range(MOST_RUNNING)]
    with pytest.raises(TooManyRuns):
        runs.start("one more", words(WAITS, "x"))
    wait_until(lambda: list(running[0].look().said))
    runs.stop(running[0])
    wait_until(lambda: running[0].exit_code is not None)
    made = []
    for number in range(MOST_REMEMBERED):
        made.append(runs.start("quick", words(f"{number}")))
        wait_until(lambda: made[-1].exit_code is not None)
    assert len(runs.newest()) == MOST_REMEMBERED
    assert runs.get(running[0].name) is None
    assert not running[0].folder.exists()
    assert all(run.exit_code is None for run in running[1:])


def test_its_files_are_for_its_owner_only_and_go_with_the_console_or_with_the_next_one(tmp_path: Path) -> None:
    folder = tmp_path / "console"
    killed, other = Runs(folder, [sys.executable, "-c"], {}), Runs(folder, [sys.executable, "-c"], {})
    write = "import sys, pathlib; pathlib.Path(sys.argv[1], 'rows.csv').write_text('x')"
    run = other.start("writes", lambda files: (write, str(files)))
    wait_until(lambda: run.exit_code is not None)
    assert run.files() == [("rows.csv", 1)]
    assert all(stat.S_IMODE(each.stat().st_mode) == 0o700 for each in (folder, *folder.iterdir(), run.files_folder))
    assert killed._held is not None
    os.close(killed._held)  # as the kernel does
    third = Runs(folder, [], {})
    assert len(list(folder.iterdir())) == 2
    assert run.files()
    other.close()
    third.close()
    assert list(folder.iterdir()) == []


def test_without_a_folder_the_console_runs_no_commands_and_everything_else(tmp_path: Path) -> None:
    (tmp_path / "console").write_text("not a folder")
    runs = Runs(tmp_path / "console", [sys.executable, "-c"], {})
    with pytest.raises(NoFolderForRuns, match="console cannot be used"):
        runs.start("one", words("1"))
    runs.close()


def test_what_a_command_says_is_sorted_and_bounded() -> None:
    output = Output()
    progress = StageProgress("students", "h.students.art", {"rows": 7, "rows_total": 9, "backlog": 3}, "art_students")
    said = orjson.dumps({"event": "progress", **progress.as_json()})
    for line in (
        b'{"event":"note","text":"job x"}', b'{"event":"job","state":"running","books":[]}', said, said,
        b"plain", b'{"no":"event"}', b"\xff",
    ):  # fmt: skip
        output.take(line)
    output.take_log(b"headrace: The host is wrong.")
    assert list(output.log) == ["job x", "headrace: The host is wrong."]
    assert list(output.said) == ["plain", '{"no":"event"}', r"\xff"]
    assert output.stages == [progress]
    assert output.problem == "The host is wrong."
    for number in range(2 * LINES):
        output.take(b"%d" % number)
    assert len(output.said) == LINES


def test_a_structured_log_line_is_read_as_people_do(tmp_path: Path) -> None:
    line = orjson.dumps(
        {"timestamp": "2026-11-25T10:55:07.1Z", "level": "info", "service": "art", "event": "sent", "size": 4}
    )
    assert log_line(line) == "10:55:07 info art sent size=4"
    assert log_line(b"Traceback") == "Traceback"
    (tmp_path / "log").write_bytes(b"x" * 100_000 + b"\n" + line + b"\n\n")
    assert tail(tmp_path / "log", 5) == ["10:55:07 info art sent size=4"]
    assert tail(tmp_path / "none", 5) == []


def test_a_file_that_grows_gives_each_line_once_and_the_last_one_when_it_has_ended(tmp_path: Path) -> None:
    growing = Growing(tmp_path / "said")
    assert growing.lines(whole=False) == []
    with (tmp_path / "said").open("wb", buffering=0) as file:
        file.write(b"one\ntw")
        assert growing.lines(whole=False) == [b"one"]
        file.write(b"o\nthree")
    assert growing.lines(whole=False) == [b"two"]
    assert growing.lines(whole=True) == [b"three"]
    growing.close()
