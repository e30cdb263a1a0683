"""When offsets are committed, and what the coordinator's answer proves.

At most every 250 ms what is closed; a failed commit is tried again; an unchanged one is repeated every fifth of a
session, since the answer is the lease of the zombie guard. Source: design section 4, "Stage loop" and "Zombies".
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence

import confluent_kafka
import structlog

from headrace.errors import FatalError
from headrace.stage.contract import Partition
from headrace.stage.middleware import Middleware
from headrace.stage.middleware.zombie import Lease
from headrace.stage.offsets import Mark, Track
from headrace.stage.outbox import Outbox

log = structlog.get_logger(__name__)

INTERVAL = 0.25
ANSWER_SECONDS = 5.0

_GONE = frozenset(
    {
        confluent_kafka.KafkaError.UNKNOWN_MEMBER_ID,
        confluent_kafka.KafkaError.ILLEGAL_GENERATION,
        confluent_kafka.KafkaError.FENCED_INSTANCE_ID,
        confluent_kafka.KafkaError._ASSIGNMENT_LOST,  # noqa: SLF001
        confluent_kafka.KafkaError._NO_OFFSET,  # noqa: SLF001
    }
)


class Fenced(FatalError):
    """Another process has taken the group instance id of this one; the process ends. Give each copy its own slot."""

    code = "fenced"


class Commits:
    """Commits marks of the tracks it is given. The loop's thread only."""

    consumer: confluent_kafka.Consumer

    def __init__(
        self,
        tracks: dict[Partition, Track],
        outbox: Outbox,
        lease: Lease,
        session: float,
        middleware: Sequence[Middleware],
        wire: Mapping[str, str],
    ) -> None:
        self._wire = wire
        self._tracks = tracks
        self._outbox = outbox
        self._lease = lease
        self._renew_after = session / 5
        self._middleware = middleware
        # Commits under way, oldest first. An answer counts for the oldest: never for one that was sent later.
        self._under_way: deque[tuple[float, dict[Partition, Mark]]] = deque()
        self._prepared: tuple[int, dict[Partition, Mark]] | None = None
        self._next = 0.0
        self._fenced = False

    def when_due(self) -> None:
        """Commit if it is time: what changed, or everything to renew the lease.

        Raises Fenced if another process bears our instance id.
        """
        if self._fenced:
            raise Fenced
        now = self._lease.clock()
        if self._under_way and now - self._under_way[-1][0] < ANSWER_SECONDS:
            return
        if now < self._next or not self._tracks:
            return
        if self._prepared is None:
            marks = {partition: track.mark() for partition, track in self._tracks.items()}
            self._prepared = (self._outbox.barrier, marks)
        barrier, marks = self._prepared
        # Events that were emitted before these marks were taken must be on the log first.
        if not self._outbox.acknowledged(barrier):
            return
        self._prepared = None
        self._next = now + INTERVAL
        due = {
            partition: mark
            for partition, mark in marks.items()
            if partition in self._tracks and self._tracks[partition].committed != mark
        }
        if not due and self._lease.age() >= self._renew_after:
            due = {partition: mark for partition, mark in marks.items() if partition in self._tracks}
        if due:
            self._send(due, now)

    def answered(
        self, error: confluent_kafka.KafkaError | None, partitions: Sequence[confluent_kafka.TopicPartition]
    ) -> None:
        """The coordinator's answer to a commit under way (librdkafka's callback, from within a poll)."""
        if not self._under_way:
            return
        sent, marks = self._under_way.popleft()
        problem = error or next((part.error for part in partitions if part.error is not None), None)
        if problem is not None:
            if problem.code() == confluent_kafka.KafkaError.FENCED_INSTANCE_ID:
                self._fenced = True
                self._lease.revoke()
            log.debug("commit failed, trying again", problem=problem.str())
            return
        self._confirm(marks, sent)

    def prove_alive(self) -> bool:
        """Commit and wait for the answer: whether this process is still a member of its group."""
        now = self._lease.clock()
        self._lease.revoke()
        marks = {partition: track.committed or track.mark() for partition, track in self._tracks.items()}
        while True:
            try:
                answers = self.consumer.commit(offsets=self._offsets(marks), asynchronous=False)
            except confluent_kafka.KafkaException as failure:
                error = failure.args[0]
            else:
                error = next((part.error for part in answers if part.error is not None), None)
            if error is None:
                self._confirm(marks, now)
                return True
            if error.code() in _GONE or not error.retriable():
                log.warning("paused for too long, partitions are lost", problem=error.str())
                return False
            time.sleep(INTERVAL)

    def give_up(self) -> None:
        """This process is no member any more: it may not act, whatever was answered before."""
        self._lease.revoke()

    def revoking(self, partitions: Sequence[Partition]) -> None:
        """Send what is closed of these partitions before they go; the answer is not awaited.

        If it fails, the next owner starts lower and finds the receipts.
        """
        if self._outbox.acknowledged(self._outbox.barrier):
            marks = {partition: self._tracks[partition].mark() for partition in partitions if partition in self._tracks}
            if marks:
                self._send(marks, self._lease.clock())

    def last(self, seconds: float) -> None:
        """Commit what is closed and wait for the answer, but no longer than `seconds`."""
        if not self._tracks or not self._outbox.acknowledged(self._outbox.barrier):
            return
        offsets = self._offsets({partition: track.mark() for partition, track in self._tracks.items()})

        def commit() -> None:
            try:
                self.consumer.commit(offsets=offsets, asynchronous=False)
            except confluent_kafka.KafkaException as error:
                log.info("last commit failed; the next owner finds the receipts", problem=error.args[0].str())

        # A synchronous commit takes no time-out of its own.
        worker = threading.Thread(target=commit, daemon=True)
        worker.start()
        worker.join(seconds)

    def _send(self, marks: dict[Partition, Mark], now: float) -> None:
        try:
            self.consumer.commit(offsets=self._offsets(marks), asynchronous=True)
        except confluent_kafka.KafkaException as error:
            log.debug("commit not sent, trying again", problem=error.args[0].str())
            return
        self._under_way.append((now, marks))

    def _confirm(self, marks: dict[Partition, Mark], sent: float) -> None:
        self._lease.renew(sent)
        for partition, mark in marks.items():
            track = self._tracks.get(partition)
            if track is not None:
                track.committed = mark
        for middleware in reversed(self._middleware):
            middleware.after_commit(marks)

    def _offsets(self, marks: dict[Partition, Mark]) -> list[confluent_kafka.TopicPartition]:
        return [
            confluent_kafka.TopicPartition(
                self._wire[partition.topic], partition.number, mark.low, metadata=mark.metadata
            )
            for partition, mark in marks.items()
        ]
