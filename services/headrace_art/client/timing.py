"""Time for the client: told and waited for through one object, so that outages of minutes can be tested in none."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Time(Protocol):
    """Tells the time and waits."""

    def now(self) -> float:
        """Seconds from any beginning; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemTime:
    """The machine's."""

    def now(self) -> float:
        """Seconds since the machine began."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
