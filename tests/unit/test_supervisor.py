"""The supervisor on real processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.config import UpSettings
from headrace.supervisor import Supervisor
from tests.support.waiting import wait_until

RUNS = "; open(sys.argv[1], 'w').close(); time.sleep(60)"
DRAINS = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))" + RUNS
STUBBORN = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + RUNS
DIES = "import sys; sys.exit(3)"


class Running:
    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.stop = threading.Event()
        self.code: int | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.code = self.supervisor.run(self.stop)

    def end(self) -> int | None:
        self.stop.set()
        self.thread.join(20)
        return self.code


@contextmanager
def supervised(services: list[str], script: str, folder: Path, **settings: str) -> Iterator[Running]:
    limits = UpSettings.model_validate({"backoff_first": "50ms", "backoff_longest": "200ms", **settings})

    def command(name: str) -> list[str]:
        return [sys.executable, "-c", script, str(folder / name)]

    running = Running(Supervisor(services, command, limits))
    try:
        yield running
    finally:
        running.end()


def test_a_killed_service_is_started_again_and_all_drain_at_the_end(tmp_path):
    with supervised(["a", "b"], DRAINS, tmp_path) as running:
        wait_until(lambda: (tmp_path / "a").exists() and (tmp_path / "b").exists())
        first, other = (child.pid for child in running.supervisor.children)
        (tmp_path / "a").unlink()
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: (tmp_path / "a").exists())
        again, same = (child.pid for child in running.supervisor.children)
        assert again != first
        assert same == other
        assert running.end() == 0
    for pid in (again, other):
        assert not Path(f"/proc/{pid}").exists()


def test_one_that_does_not_drain_in_time_is_killed_and_told_of(tmp_path):
    with supervised(["a"], STUBBORN, tmp_path, stop_within="300ms") as running:
        wait_until(lambda: (tmp_path / "a").exists())
        pid = running.supervisor.children[0].pid
        assert running.end() == 1
    assert not Path(f"/proc/{pid}").exists()


def test_one_that_dies_at_once_is_tried_again_ever_more_rarely(tmp_path):
    with supervised(["a"], DIES, tmp_path, backoff_longest="10s") as running:
        child = running.supervisor.children[0]
        wait_until(lambda: child.deaths == 3)
        assert child.process is None
        assert child.due - child.started >= 0.2


def test_two_copies_of_one_service_are_two_processes(tmp_path):
    with supervised(["a", "a"], DRAINS, tmp_path) as running:
        pids = wait_until(lambda: pids_of(running) if len(pids_of(running)) == 2 else None)
        assert len(set(pids)) == 2


def pids_of(running: Running) -> list[int]:
    return [child.pid for child in running.supervisor.children if child.pid is not None]
