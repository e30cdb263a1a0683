"""Runs services as child processes: starts what dies again, passes on the end, waits no longer than it was told.

Children write to the same standard error; nothing is put before their lines. Source: design section 5, `headrace up`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from headrace.config import UpSettings

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.1
STEADY_SECONDS = 60.0
WRONG_SETTINGS = 2


@dataclass(slots=True)
class Child:
    """One service process, or the wait until it is started again. Times are monotonic seconds."""

    name: str
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float = 0.0
    deaths: int = 0

    @property
    def pid(self) -> int | None:
        """The process's number, None between two lives."""
        return None if self.process is None else self.process.pid


class Supervisor:
    """Keeps one process running for each service.

    Parameters:
        services: names of services; one that is named twice has two processes.
        command: the command line that runs a service.
        settings: how long to wait before a restart and at the end.
        ensure: called about once a second, for what has to be up beside the services; must return soon.
        environment: variables for the services, on top of this process's.
        output: file descriptor for what they write; by default this process's own standard output and error.
        refused: told of a service that ended since it is set wrongly; it is started again all the same.
    """

    def __init__(
        self,
        services: Sequence[str],
        command: Callable[[str], Sequence[str]],
        settings: UpSettings,
        ensure: Callable[[], None] | None = None,
        environment: Mapping[str, str] | None = None,
        output: int | None = None,
        refused: Callable[[str], None] | None = None,
    ) -> None:
        self.children = [Child(name) for name in services]
        self._command = command
        self._settings = settings
        self._ensure = ensure
        self._environment = environment or {}
        self._output = output
        self._refused = refused

    def run(self, stop: threading.Event) -> int:
        """Keep everything running until `stop` is set, then end it. Returns 1 if a service did not end well, else 0."""
        next_ensure = 0.0
        try:
            while not stop.wait(LOOK_SECONDS):
                now = time.monotonic()
                for child in self.children:
                    self._look_after(child, now)
                if self._ensure is not None and now >= next_ensure:
                    next_ensure = now + 1.0
                    self._ensure()
        finally:
            code = self._end()
        return code

    def _look_after(self, child: Child, now: float) -> None:
        if child.process is None:
            if now >= child.due:
                self._start(child, now)
            return
        code = child.process.poll()
        if code is None:
            return
        child.deaths = 1 if now - child.started >= STEADY_SECONDS else child.deaths + 1
        wait = self._wait(child.deaths)
        child.process, child.due = None, now + wait
        log.warning("service ended", name=child.name, ended=_ending(code), starts_again_in=wait)
        if code == WRONG_SETTINGS and self._refused is not None:
            self._refused(child.name)

    def _start(self, child: Child, now: float) -> None:
        # In a session of its own: Ctrl-C on the terminal is ours to pass on.
        child.process = subprocess.Popen(
            self._command(child.name),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            env={**os.environ, **self._environment},
            start_new_session=True,
        )
        child.started = now
        log.info("service started", name=child.name, pid=child.process.pid)

    def _wait(self, deaths: int) -> float:
        first = self._settings.backoff_first.total_seconds()
        longest = self._settings.backoff_longest.total_seconds()
        return min(first * 2.0 ** min(deaths - 1, 32), longest)

    def _end(self) -> int:
        for child in self.children:
            if child.process is not None:
                log.info("stopping", name=child.name, pid=child.pid)
                child.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._settings.stop_within.total_seconds()
        code = 0
        for child in self.children:
            if child.process is None:
                continue
            try:
                ended = child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                ended = child.process.wait()
                log.error("service did not drain in time and was killed", name=child.name)
            # A process that has not yet come to say what SIGTERM means to it had nothing to drain.
            if ended not in (0, -signal.SIGTERM):
                code = 1
                log.warning("service ended", name=child.name, ended=_ending(ended))
            child.process = None
        return code


def _ending(code: int) -> str:
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
