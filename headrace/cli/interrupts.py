"""What Ctrl-C means to a command that follows a job: the first time it detaches, the second time it stops the job."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from types import FrameType


class OnInterrupt(StrEnum):
    """What the first Ctrl-C does."""

    DETACH = "detach"
    STOP = "stop"


@dataclass(frozen=True)
class Interrupts:
    """`leave` is set with the first Ctrl-C or SIGTERM, `stop` when the job is to be stopped."""

    leave: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)


@contextmanager
def interrupts(first: OnInterrupt) -> Iterator[Interrupts]:
    """Catch Ctrl-C and SIGTERM. SIGTERM detaches; the Ctrl-C after the one that stops ends the process at once."""
    found = Interrupts()

    def asked(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and (found.leave.is_set() or first is OnInterrupt.STOP):
            found.stop.set()
            signal.signal(number, signal.SIG_DFL)
        found.leave.set()

    before = {number: signal.signal(number, asked) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
