"""Patience with the object store: every request is tried until the store has answered it, however long that takes.

A circuit breaker is shared by all workers: once several requests in a row have failed, one of them probes and the
others wait, so an unwell store is not stormed. Nothing is sent while the zombie guard says no.
Source: design section 4, "Outside systems" and "Zombies".
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from headrace.errors import HeadraceError, TransientError

Answer = TypeVar("Answer")

FAILURES_TO_OPEN = 3
LONGEST_WAIT = 8.0
LOOK_SECONDS = 0.05


class Withdrawn(Exception):
    """Nobody waits for this work any more."""


class Patience:
    """The workers' common view of one store.

    Parameters:
        may_act: the zombie guard; asked before every request.
        longest_wait: seconds between two tries at the most.
    """

    def __init__(self, may_act: Callable[[], bool], *, longest_wait: float = LONGEST_WAIT) -> None:
        self._may_act = may_act
        self._longest_wait = longest_wait
        self._condition = threading.Condition()
        self._stopped = False
        self._failures = 0
        self._probing = False
        self._probe_at = 0.0
        self._problem: TransientError | None = None

    @property
    def problem(self) -> TransientError | None:
        """Why nothing but probes is sent now; None while the store is well."""
        return self._problem

    def call(self, request: Callable[[], Answer], wanted: Callable[[], bool]) -> Answer:
        """Make a request until it is answered.

        Raises what the request raises, unless it is transient; Withdrawn once `wanted` says no.
        """
        attempt = 0
        while True:
            probe = self._wait_for_turn(wanted)
            try:
                answer = request()
            except TransientError as error:
                attempt += 1
                self._failed(error, probe)
                self._pause(self._delay(error, attempt), wanted)
            except HeadraceError:
                self._answered()
                raise
            except BaseException:
                self._give_up_probe(probe)
                raise
            else:
                self._answered()
                return answer

    def stop(self) -> None:
        """Nobody waits for anything any more."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()

    def _wait_for_turn(self, wanted: Callable[[], bool]) -> bool:
        """Wait until a request may be made; returns whether it is the one that probes."""
        while True:
            self._look(wanted)
            if self._may_act():
                if self._problem is None:
                    return False
                with self._condition:
                    if self._problem is None:
                        return False
                    if not self._probing and time.monotonic() >= self._probe_at:
                        self._probing = True
                        return True
            with self._condition:
                self._condition.wait(LOOK_SECONDS)

    def _pause(self, seconds: float, wanted: Callable[[], bool]) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._look(wanted)
            with self._condition:
                self._condition.wait(min(LOOK_SECONDS, left))

    def _look(self, wanted: Callable[[], bool]) -> None:
        if self._stopped or not wanted():
            raise Withdrawn

    def _failed(self, error: TransientError, probe: bool) -> None:
        with self._condition:
            self._failures += 1
            if self._failures >= FAILURES_TO_OPEN:
                self._problem = error
                self._probe_at = time.monotonic() + self._delay(error, self._failures - FAILURES_TO_OPEN + 1)
            if probe:
                self._probing = False

    def _answered(self) -> None:
        # An answer, even a refusal, shows that the store is well.
        if not self._failures:
            return
        with self._condition:
            self._failures = 0
            self._problem = None
            self._probing = False
            self._condition.notify_all()

    def _give_up_probe(self, probe: bool) -> None:
        if probe:
            with self._condition:
                self._probing = False

    def _delay(self, error: TransientError, attempt: int) -> float:
        seconds = min(error.retry_after * 2.0 ** min(attempt - 1, 10), self._longest_wait)
        return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
