"""One version of one file on its way: which of its bytes are on the log, and what `headrace.files` says of it.

`delivered` and its siblings are delivery callbacks. All of them run in the sender's one delivery thread, in log order
per partition, since the producer is idempotent and never gives a message up.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Protocol

from headrace.chunks.frames import DEFAULT_ALGORITHM
from headrace.events import FileEvent, FileState
from headrace.keys import encode_key
from headrace.topics import Topic, said_of
from headrace_files.sending.budget import Budget
from headrace_files.sending.jobs import Job, Result
from headrace_files.sending.snapshot import Snapshot


class Desk(Protocol):
    """Where a transfer reports to: its sender."""

    budget: Budget
    source: str
    dataset: str | None
    job: str | None
    topic: Topic
    progress_bytes: int
    bytes_acknowledged: int

    def refused(self, error: Any, message: Any) -> None:
        """The broker refused a message for good."""

    def say(self, transfer: Transfer, event: FileEvent, *, last_word: bool) -> None:
        """Put an event on the log; after the last word the transfer is finished."""

    def finished(self, transfer: Transfer) -> None:
        """Nothing more will come of it."""


class Transfer:
    """Counts what the broker acknowledged of one version."""

    __slots__ = (
        "acked", "attempt", "chunk", "desk", "event", "file", "first", "frames", "hash", "job", "key",
        "last", "partition", "path", "pending", "reason", "reported", "result", "snapshot",
    )  # fmt: skip

    def __init__(self, desk: Desk, job: Job, path: bytes, file: bytes, snapshot: Snapshot, partition: int) -> None:
        self.desk = desk
        self.job = job
        self.path = path
        self.file = file
        self.snapshot = snapshot
        self.partition = partition
        self.attempt = job.attempt
        self.key = encode_key((path.hex(), file.hex()))
        self.chunk = 0
        self.frames = 0
        self.acked = 0
        self.reported = 0
        self.first: int | None = None
        self.last: int | None = None
        self.hash: bytes | None = None
        self.pending: deque[int] = deque()
        self.result = Result.ANNOUNCED
        self.reason: str | None = None
        self.event: FileEvent | None = None

    @property
    def trace(self) -> str:
        """W3C trace context: the same version always has the same trace. Source: W3C Trace Context, section 3.2."""
        return f"00-{self.file.hex()}-{self.path.hex()[:16]}-01"

    def say(self, state: FileState) -> FileEvent:
        """What is known now, as an event."""
        snapshot = self.snapshot
        desk = self.desk
        self.event = FileEvent(
            path_id=self.path,
            file=self.file,
            source=desk.source,
            path=self.job.path,
            state=state,
            attempt=self.attempt,
            inode=snapshot.inode,
            mtime_ns=snapshot.mtime_ns,
            ctime_ns=snapshot.ctime_ns,
            size=snapshot.size,
            acked=self.acked,
            alg=DEFAULT_ALGORITHM,
            hash=self.hash,
            partition=self.partition,
            first=self.first,
            last=self.last,
            dataset=desk.dataset,
            job=desk.job,
            reason=self.reason,
            topic=said_of(desk.topic),
            at=time.time_ns() // 1000,
        )
        return self.event

    def opened(self, error: Any, message: Any) -> None:
        """The open frame is on the log."""
        self.desk.budget.give(0)
        if error is not None:
            self.desk.refused(error, message)
            return
        self.first = message.offset()

    def delivered(self, error: Any, message: Any) -> None:
        """The next data frame is on the log."""
        end = self.pending.popleft()
        desk = self.desk
        desk.budget.give(end - self.acked)
        if error is not None:
            desk.refused(error, message)
            return
        desk.bytes_acknowledged += end - self.acked
        self.acked = end
        if end - self.reported >= desk.progress_bytes:
            self.reported = end
            desk.say(self, self.say("sending"), last_word=False)
        if self.result is Result.INTERRUPTED and not self.pending:
            self._say_how_far()

    def interrupt(self) -> None:
        """Reading stopped half-way: once everything handed over is on the log, say how far it went."""
        self.result = Result.INTERRUPTED
        if not self.pending:
            self._say_how_far()

    def _say_how_far(self) -> None:
        if self.acked > self.reported:
            self.reported = self.acked
            self.desk.say(self, self.say("sending"), last_word=True)
        else:
            self.desk.finished(self)

    def closed(self, error: Any, message: Any) -> None:
        """The close frame is on the log, so everything is, or everything that will be."""
        self.desk.budget.give(0)
        if error is not None:
            self.desk.refused(error, message)
            return
        self.last = message.offset()
        self.desk.say(self, self.say("announced" if self.result is Result.ANNOUNCED else "aborted"), last_word=True)

    def whole(self, error: Any, message: Any) -> None:
        """The only frame is on the log."""
        self.desk.budget.give(self.snapshot.size)
        if error is not None:
            self.desk.refused(error, message)
            return
        self.first = self.last = message.offset()
        self.acked = self.snapshot.size
        self.desk.bytes_acknowledged += self.acked
        self.desk.say(self, self.say("announced"), last_word=True)

    def spoken(self, error: Any, message: Any) -> None:
        """The last word is on the log."""
        if error is not None:
            self.desk.refused(error, message)
            return
        self.desk.finished(self)
