"""The time that a stand-in lives in: real, faster, or stepped by hand, so that an outage of minutes costs nothing."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
import time
from typing import Protocol

START = 1_700_000_000.0
"""Where a stepped clock begins, in seconds since 1970: any moment will do, the same one makes runs equal."""

_SETTLE_ROUNDS = 50


class Clock(Protocol):
    """Tells the time and waits."""

    def now(self) -> float:
        """Seconds since 1970."""

    async def sleep(self, seconds: float) -> None:
        """Wait; not at all if `seconds` is not positive, but others run."""


class RunningClock:
    """Goes by itself, `speed` times as fast as real time."""

    def __init__(self, speed: float = 1.0) -> None:
        self._speed = speed
        self._started = time.time()
        self._origin = time.monotonic()

    def now(self) -> float:
        """Seconds since 1970, if it started right and ran at `speed` since."""
        return self._started + (time.monotonic() - self._origin) * self._speed

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` on this clock."""
        await asyncio.sleep(max(0.0, seconds) / self._speed)


class SteppedClock:
    """Stands still until it is moved on; who sleeps wakes in the order of time. For several event loops at once."""

    def __init__(self, start: float = START) -> None:
        self._now = start
        self._lock = threading.Lock()
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def now(self) -> float:
        """Seconds since 1970."""
        return self._now

    @property
    def sleepers(self) -> int:
        """How many wait for time to pass."""
        with self._lock:
            return len(self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been moved on by `seconds`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        with self._lock:
            heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), loop, woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Move on, stopping at each sleeper's time, so that what it does then comes before what others do later."""
        target = self._now + seconds
        while True:
            with self._lock:
                due = bool(self._sleepers) and self._sleepers[0][0] <= target
                if due:
                    self._now, _, loop, woken = heapq.heappop(self._sleepers)
            if not due:
                break
            loop.call_soon_threadsafe(_wake, woken)
            await _settle()
        self._now = target
        await _settle()


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():  # it may have been cancelled
        sleeper.set_result(None)


async def _settle() -> None:
    """Let what was woken run until it waits again."""
    for _ in range(_SETTLE_ROUNDS):
        await asyncio.sleep(0)
