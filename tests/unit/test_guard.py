"""A test run that is killed leaves no broker or server behind, and touches nobody else's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.waiting import wait_until

RUN = """
import os, signal, sys
from pathlib import Path
from tests.support.guard import guarded
with guarded(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def sleeper(mark: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", str(mark)])


def test_what_a_killed_run_started_is_ended_and_nothing_else(tmp_path: Path) -> None:
    own = sleeper(tmp_path / "run-2" / "server.properties")
    of_another_run = sleeper(tmp_path / "run-25" / "server.properties")
    try:
        run = subprocess.run([sys.executable, "-c", RUN, str(tmp_path / "run-2")], cwd=Path(__file__).parents[2])
        assert run.returncode == -9
        wait_until(lambda: own.poll() is not None)
        assert of_another_run.poll() is None
    finally:
        for process in (own, of_another_run):
            process.kill()
            process.wait()
