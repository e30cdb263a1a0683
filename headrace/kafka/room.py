"""Keeps room on the disk of a broker that is on this machine: who puts in much waits while there is little.

Kafka ends when its disk is full. What consumers say (receipts, positions, dead letters) is small and goes on, so that
what is on the log is worked off. Source: design section 5, "refuses new input before the disk is full".
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5
SAY_SECONDS = 60.0


class Room:
    """The disk that a broker writes to.

    Parameters:
        folder: where it writes; None for a broker whose disk cannot be seen from here, where nobody ever waits.
        reserve: bytes that must be free.
    """

    def __init__(self, folder: Path | None = None, reserve: int = 0) -> None:
        self._folder = folder
        self._reserve = reserve
        self._look_at = 0.0

    def wait(self, ended: Callable[[], object]) -> None:
        """Return when there is room; looks at most twice a second. `ended` raises if nobody needs to wait any more."""
        now = time.monotonic()
        if self._folder is None or now < self._look_at:
            return
        said = -SAY_SECONDS
        while (free := shutil.disk_usage(self._folder).free) < self._reserve:
            if time.monotonic() - said >= SAY_SECONDS:
                said = time.monotonic()
                log.warning(
                    "the broker's disk is nearly full: nothing more is sent until there is room",
                    folder=str(self._folder), free=free, reserve=self._reserve,
                )  # fmt: skip
            ended()
            time.sleep(LOOK_SECONDS)
        if said > 0:
            log.info("there is room on the broker's disk again", folder=str(self._folder), free=free)
        self._look_at = time.monotonic() + LOOK_SECONDS
