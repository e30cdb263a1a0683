"""Ends what a test run started when the run itself is killed and cannot.

Brokers and servers run detached, so that they survive the commands that start them; a killed test run would leave
them behind. A child process waits for the end of a pipe that only the test run holds, then kills every process that
names the run's temporary folder on its command line.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Guard the folder until the block ends, and clear up then too."""
    guard = subprocess.Popen(
        [sys.executable, "-m", "tests.support.guard"],
        stdin=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    assert guard.stdin is not None
    try:
        guard.stdin.write(f"{folder}\n".encode())
        guard.stdin.flush()
        yield
    finally:
        guard.stdin.close()
        guard.wait()


def end_all(folder: str) -> None:
    """Kill every process with an argument that names something in the folder."""
    # With the slash: the folder of run 2 is no part of the folder of run 25.
    for process in psutil.process_iter(["cmdline"]):
        if any(f"{folder}/" in argument for argument in process.info["cmdline"] or []):
            try:
                process.kill()
            except psutil.Error:
                continue


if __name__ == "__main__":
    watched = sys.stdin.readline().rstrip("\n")
    sys.stdin.read()
    end_all(watched)
