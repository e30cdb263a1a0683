"""What a stage sends: events, dead letters, receipts. A receipt follows everything sent before it onto the log."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import confluent_kafka

from headrace.errors import FatalError
from headrace.kafka.clients import Cluster
from headrace.topics import Topic

Headers = Sequence[tuple[str, bytes]]
Delivered = Callable[[int], None]

FULL_QUEUE_WAIT = 0.05
FLUSH_SECONDS = 10.0


class NotDelivered(FatalError):
    """A message to {topic} was refused for good: {problem}; the process starts again from its committed offset."""

    code = "not-delivered"


class Outbox:
    """One producer's unfinished business. The loop's thread only."""

    def __init__(self, cluster: Cluster, producer: confluent_kafka.Producer) -> None:
        self._cluster = cluster
        self._producer = producer
        self._next = 0
        self._unacknowledged: dict[int, None] = {}
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._failure: NotDelivered | None = None

    def send(
        self,
        topic: Topic,
        key: bytes | None,
        value: bytes | None,
        partition: int,
        headers: Headers = (),
        delivered: Delivered | None = None,
        *,
        awaited: bool = True,
    ) -> None:
        """Hand a message to the producer; `delivered` is called with its offset by `poll`.

        What is `awaited` holds back later receipts; receipts themselves are not, so that they share batches.
        """
        serial = None
        if awaited:
            serial = self._next
            self._next += 1
            self._unacknowledged[serial] = None
        name = self._cluster.topic_name(topic)
        report = partial(self._report, serial, name, delivered)
        while True:
            try:
                self._producer.produce(
                    name, value, key, partition=partition, headers=list(headers) or None, on_delivery=report
                )
            except BufferError:
                self._producer.poll(FULL_QUEUE_WAIT)
                continue
            return

    def after_all(self, action: Callable[[], None]) -> None:
        """Do `action` once everything sent so far is acknowledged; now, if nothing is under way."""
        if self._oldest() == self._next and not self._waiting:
            action()
        else:
            self._waiting.append((self._next, action))

    def poll(self) -> None:
        """Take in delivery reports.

        Raises NotDelivered if one said that a message is lost for good.
        """
        self._producer.poll(0)
        if self._failure is not None:
            raise self._failure

    @property
    def barrier(self) -> int:
        """A number that stands for everything sent so far."""
        return self._next

    def acknowledged(self, barrier: int) -> bool:
        """Whether everything that was awaited when `barrier` was taken is on the log."""
        return self._oldest() >= barrier

    def flush(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait for everything, waiting receipts included; whether all of it is on the log."""
        remaining = self._producer.flush(seconds)
        if self._waiting and not remaining:
            self._release()
            remaining = self._producer.flush(seconds)
        if self._failure is not None:
            raise self._failure
        return not remaining

    def _oldest(self) -> int:
        return next(iter(self._unacknowledged), self._next)

    def _report(
        self,
        serial: int | None,
        topic: str,
        delivered: Delivered | None,
        error: confluent_kafka.KafkaError | None,
        message: confluent_kafka.Message,
    ) -> None:
        if error is not None:
            self._failure = NotDelivered(topic=topic, problem=error.str())
            return
        if delivered is not None:
            offset = message.offset()
            delivered(-1 if offset is None else offset)
        if serial is not None:
            del self._unacknowledged[serial]
            self._release()

    def _release(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._oldest():
            self._waiting.popleft()[1]()
