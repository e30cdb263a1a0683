"""Doing something with Kafka until it works."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from headrace.errors import TransientError

log = structlog.get_logger(__name__)

Made = TypeVar("Made")

SAID_AFTER = 1.0
"""Seconds that Kafka may need, as right after its start, before it is worth a line in the log."""


def insist(
    stop: threading.Event, act: Callable[[], Made], told: Callable[[TransientError], None] = lambda _error: None
) -> Made | None:
    """What `act` returns once it works; None if told to stop before. What lasts longer than a second is logged.

    Parameters:
        told: is told of each try that failed.

    Raises what `act` raises, unless it is transient.
    """
    begun = time.monotonic()
    while not stop.is_set():
        try:
            return act()
        except TransientError as error:
            told(error)
            if time.monotonic() - begun > SAID_AFTER:
                log.warning("waiting for Kafka", problem=str(error))
            stop.wait(error.retry_after)
    return None
