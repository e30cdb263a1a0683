"""Waiting for a condition instead of sleeping for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")


def wait_until(condition: Callable[[], Seen], *, within: float = 10.0, every: float = 0.05) -> Seen:
    """Return what the condition returns as soon as that is true.

    A condition that fails an assertion is not met yet either, so it may say in detail what it expects.

    Parameters:
        within, every: seconds until it is given up, and between two looks.

    Raises AssertionError with what was seen last.
    """
    deadline = time.monotonic() + within
    while True:
        try:
            seen = condition()
            if seen:
                return seen
            last = f"{seen!r}"
        except AssertionError as error:
            last = str(error) or "an assertion failed"
        if time.monotonic() > deadline:
            raise AssertionError(f"not met within {within:g} s; seen last: {last}")
        time.sleep(every)
