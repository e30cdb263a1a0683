"""Files on their way through a stage that reads chunks: whose frames they are, and since when none came.

Source: design section 3, chunk protocol, and section 1, rule 4 (an item that stays incomplete is closed as failed).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from headrace import receipts
from headrace.chunks.frames import Close, Open, Whole
from headrace.errors import PoisonError
from headrace.events import Outcome, UploadAck
from headrace.keys import path_id
from headrace.stage.contract import Context, Message, Partition, Version
from headrace.stage.decoding import file_of

A = TypeVar("A", bound="Arrival")

DOUBT_SECONDS = 300.0
"""After so long without a frame it is looked for whether the file was delivered before."""


class WrongKey(PoisonError):
    """The message key is not the one of the file that the frame names: {problem}."""

    code = "wrong-key"


def identify(message: Message, frame: Open | Whole) -> bytes:
    """The id of the file that a frame announces. Raises WrongKey if the message's key is not that file's."""
    file = file_of(message.key)
    if file is None or len(message.key) != 2:
        raise WrongKey(problem="it has not the form path id / file id")
    if path_id(frame.source, frame.path).hex() != message.path:
        raise WrongKey(problem="its path id is not that of source and path")
    return file


class Arrival:
    """One version of a file on its way: from its `open` frame, or all of it in a `whole` frame.

    `last` is the greatest offset of its frames, `seen` their latest time in milliseconds. `cancelled` is set when the
    partition is taken away; whoever works on the file must look at it before it acts.
    """

    def __init__(self, first: Message, frame: Open | Whole, file: bytes) -> None:
        self.first = first
        self.frame = frame
        self.file = file
        self.version = Version(frame.ctime_ns, first.order, file)
        self.last = first.offset
        self.seen = first.time
        self.close: Close | None = None
        self.cancelled = False

    @property
    def item(self) -> str:
        """The file id in hex, as receipts bear it."""
        return self.first.item

    def touch(self, message: Message) -> None:
        """A frame of the file was met."""
        self.last = max(self.last, message.offset)
        self.seen = max(self.seen, message.time)

    def takes(self, message: Message) -> bool:
        """Whether a frame is of this file. One with the same file id under another path or topic is a forgery."""
        return self.first.key == message.key and self.first.partition == message.partition

    def receipt(self, group: str, outcome: Outcome, code: str | None = None, **stored: Any) -> UploadAck:
        """What became of it; `stored` as `headrace.receipts.settle` takes it."""
        return receipts.settle(
            group, self.first, self.last, outcome, code=code, file=self.file, job=self.frame.job,
            ctime_ns=self.frame.ctime_ns, **stored,
        )  # fmt: skip


class Silence:
    """Since when nothing came of a file, by the log's time and by the clock where the whole partition is silent.

    Silence counts only while all that is on the log was read, and Kafka answers.

    Parameters:
        limit: seconds without a frame after which a file is overdue.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._log_time: dict[Partition, int] = {}
        self._heard: dict[Partition, float] = {}

    def met(self, message: Message) -> None:
        """A message came."""
        self._log_time[message.partition] = max(message.time, self._log_time.get(message.partition, 0))
        self._heard[message.partition] = time.monotonic()

    def look(self, caught_up: Callable[[Partition], bool]) -> None:
        """To be called every second or so."""
        for partition in self._heard:
            if not caught_up(partition):
                self._heard[partition] = time.monotonic()

    def forget(self, partitions: Sequence[Partition]) -> None:
        """They are another's now."""
        for partition in partitions:
            self._heard.pop(partition, None)
            self._log_time.pop(partition, None)

    def overdue(self, arrivals: Iterable[A], context: Context) -> list[A]:
        """Those of which no frame came for too long, or for a while if they were delivered before.

        A part of a delivered file that was sent again would hold the committed offset for nothing.
        """
        return [
            arrival
            for arrival in arrivals
            if (silence := self._seconds(arrival)) > self._limit
            or (silence > DOUBT_SECONDS and context.delivered(arrival.item))
        ]

    def _seconds(self, arrival: Arrival) -> float:
        now = time.monotonic()
        by_log = (self._log_time.get(arrival.first.partition, 0) - arrival.seen) / 1000
        return max(by_log, now - self._heard.get(arrival.first.partition, now))
