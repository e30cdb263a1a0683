"""Real service processes that a test starts, kills at named points or at random, pauses, wakes and starts again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from tests.support.waiting import wait_until

USAGE = 2
HEADRACE = Path(sys.executable).parent / "headrace"
LAST_LINES = 30


class ServiceDied(Exception):
    """A service ended that should run. No AssertionError: waiting for it to come back is of no use."""


class Service:
    """One `headrace` command, run in a process of its own, as often as it takes.

    Parameters:
        folder: where it runs and leaves its log.
        arguments: of `headrace`.
        environment: its settings, on top of this process's.
        ends_with: its exit code when it was stopped in an orderly way.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        arguments: Sequence[str | Path],
        environment: Mapping[str, str],
        ends_with: int = 0,
    ) -> None:
        self.name = name
        self.ends_with = ends_with
        self.log = folder / f"{name}.log"
        self.marker = folder / f"{name}.marker"
        self.kills = 0
        self.revivals = 0
        self._folder = folder
        self._command = [str(HEADRACE), *(str(argument) for argument in arguments)]
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process is there, paused ones included."""
        return self._process is not None and self._process.poll() is None

    def start(self, kill_point: str | None = None) -> None:
        """Start it; with `kill_point` (`name` or `name:n`) it stops there and waits to be killed."""
        assert not self.running, f"{self.name} runs already"
        self.marker.unlink(missing_ok=True)
        armed = {} if kill_point is None else {
            "HEADRACE_KILL_POINT": kill_point, "HEADRACE_KILL_MARKER": str(self.marker)
        }  # fmt: skip
        with self.log.open("ab") as log:
            log.write(f"--- start {kill_point or ''}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder,
                env=self._environment | armed,
            )  # fmt: skip

    def await_point(self, meanwhile: Callable[[], object] = lambda: None, within: float = 30.0) -> None:
        """Wait until it stands at its kill point, and do something `meanwhile`, five times a second."""

        def there() -> bool:
            self.check()
            meanwhile()
            return self.marker.exists()

        wait_until(there, within=within, every=0.2)

    def check(self) -> None:
        """Fail with the end of its log if it ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise ServiceDied(f"{self.name} ended with {self._process.returncode}:\n{self.tail()}")

    def kill(self) -> None:
        """SIGKILL, as an outage would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self.kills += 1
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: it stands still and keeps everything it holds."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        process = psutil.Process(self._process.pid)
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED)

    def wake(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self, within: float = 30.0) -> None:
        """SIGTERM, and it drains; fails if it does not end as it should."""
        if self._process is None:
            return
        self.check()
        self._process.terminate()
        try:
            code = self._process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop within {within:g} s:\n{self.tail()}") from None
        self._process = None
        # One that has only just been started has not yet begun to listen for signals.
        silent = self.tail().rpartition("\n")[2].startswith("--- start")
        assert code == self.ends_with or (silent and code == -signal.SIGTERM), (
            f"{self.name} ended with {code}:\n{self.tail()}"
        )

    def revive(self) -> str | None:
        """Start it again if it ended by itself, as a supervisor would; its last words then.

        A wrong setting stays fatal.
        """
        if self._process is None or self._process.poll() is None:
            return None
        if self._process.returncode == USAGE:
            self.check()
        words = self.tail().rpartition("\n")[2]
        self._process = None
        self.start()
        self.revivals += 1
        return words

    def tail(self) -> str:
        """The end of its log, without what the client says twenty times a second while Kafka is away."""
        lines = self.log.read_text("utf-8", "replace").splitlines() if self.log.exists() else []
        lines = [line for line in lines if "Connection refused" not in line]
        return "\n".join(lines[-LAST_LINES:])

    def said(self, words: str) -> bool:
        """Whether its log holds these words."""
        return words in self.log.read_text("utf-8", "replace")
