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
Report = Callable[[confluent_kafka.KafkaError | None, confluent_kafka.Message], None]

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
        self._oldest_known = 0
        self._unacknowledged: set[int] = set()
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
        report = partial(self._report, self._serial() if awaited else None, delivered)
        self._produce(self._cluster.topic_name(topic), value, key, partition, report, list(headers) or None)

    def send_all(
        self, topic: Topic, partition: int, messages: Sequence[tuple[bytes, bytes | None]], delivered: Delivered
    ) -> None:
        """Hand keys and values to the producer, for one partition, in their order; all of them are awaited.

        What is told of the last one, with its offset, holds for all: an idempotent producer keeps the order of a
        partition. To be told of each costs more than to send it.
        """
        if not messages:
            return
        name = self._cluster.topic_name(topic)
        produce, look = self._producer.produce, self._look
        for key, value in messages[:-1]:
            try:
                produce(name, value, key, partition, look)
            except BufferError:
                self._produce(name, value, key, partition, look)
        key, value = messages[-1]
        self._produce(name, value, key, partition, partial(self._report, self._serial(), delivered))

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
    def waiting(self) -> bool:
        """Whether something awaited is not on the log yet."""
        return bool(self._unacknowledged)

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

    def _serial(self) -> int:
        serial = self._next
        self._next += 1
        self._unacknowledged.add(serial)
        return serial

    def _produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        report: Report,
        headers: list[tuple[str, str | bytes | None]] | None = None,
    ) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, partition, report, headers=headers)
            except BufferError:
                self._producer.poll(FULL_QUEUE_WAIT)
                continue
            return

    def _oldest(self) -> int:
        oldest, unacknowledged = self._oldest_known, self._unacknowledged
        while oldest < self._next and oldest not in unacknowledged:
            oldest += 1
        self._oldest_known = oldest
        return oldest

    def _report(
        self,
        serial: int | None,
        delivered: Delivered | None,
        error: confluent_kafka.KafkaError | None,
        message: confluent_kafka.Message,
    ) -> None:
        self._look(error, message)
        if error is not None or (serial is not None and self._failure is not None):
            # One that was refused before may be among those that this one speaks for.
            return
        if delivered is not None:
            offset = message.offset()
            delivered(-1 if offset is None else offset)
        if serial is not None:
            self._unacknowledged.remove(serial)
            self._release()

    def _look(self, error: confluent_kafka.KafkaError | None, message: confluent_kafka.Message) -> None:
        if error is not None:
            self._failure = NotDelivered(topic=message.topic() or "?", problem=error.str())

    def _release(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._oldest():
            self._waiting.popleft()[1]()
