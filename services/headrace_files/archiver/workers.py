"""Threads that do requests, and that do not hold up the end of the process."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable


class Workers:
    """`count` daemon threads that take work in order.

    (A ThreadPoolExecutor joins its threads when the interpreter ends, so a request that the store does not answer would
    hold up a stopping service for a minute.)
    """

    def __init__(self, count: int) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"upload-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, step: Callable[[], None]) -> None:
        """Do `step` soon; it must not raise."""
        self._work.put(step)

    def close(self, seconds: float) -> bool:
        """Do what was submitted, and stop; whether all of it was done within `seconds`."""
        for _ in self._threads:
            self._work.put(None)
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while (step := self._work.get()) is not None:
            step()
