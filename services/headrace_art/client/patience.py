"""Trying again: what waits between tries, for how long, and when nobody tries at all. Source: reference art R8."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from headrace.errors import TransientError
from headrace.stage.middleware.retries import delay
from headrace_art.client.timing import Time

Result = TypeVar("Result")

THRESHOLD = 5
"""Failures in a row after which all callers wait but one."""

LONGEST_PAUSE = 30.0
"""Seconds that the circuit stays open at most before it is probed."""


class Breaker:
    """Opens after some failures in a row; then one caller at a time finds out whether it is well again."""

    def __init__(self, time: Time, threshold: int = THRESHOLD) -> None:
        self._time, self._threshold = time, threshold
        self._failures = 0
        self._last: TransientError | None = None
        self._until = float("-inf")

    @property
    def open(self) -> bool:
        """Whether callers wait."""
        return self._failures >= self._threshold

    async def admitted(self, until: float) -> None:
        """Return when it is this caller's turn to try; raise the last failure if that is not before `until`."""
        while self.open:
            now = self._time.now()
            if now >= self._until:
                self._until = now + self._pause()  # this one probes, the others wait on
                return
            if self._until > until and self._last is not None:
                raise self._last
            await self._time.sleep(self._until - now)

    def failed(self, error: TransientError) -> None:
        """A try failed."""
        self._failures += 1
        self._last = error
        if self.open:
            self._until = self._time.now() + self._pause()

    def succeeded(self) -> None:
        """A try worked: everybody may."""
        self._failures = 0

    def _pause(self) -> float:
        return min(2.0 ** min(self._failures - self._threshold, 10), LONGEST_PAUSE)


class Patience:
    """Repeats calls while they fail for reasons that pass. One for all calls to the same ART.

    Parameters:
        deadline: seconds after which a call that still fails raises its last error.
    """

    def __init__(self, time: Time, deadline: float) -> None:
        self._time, self._deadline = time, deadline
        self.breaker = Breaker(time)

    async def run(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Call until it works. Raises what is not transient at once."""
        began, attempt = self._time.now(), 0
        while True:
            await self.breaker.admitted(began + self._deadline)
            try:
                result = await call()
            except TransientError as error:
                self.breaker.failed(error)
                attempt += 1
                wait = delay(error, attempt)
                if self._time.now() + wait - began > self._deadline:
                    raise
                await self._time.sleep(wait)
            else:
                self.breaker.succeeded()
                return result
