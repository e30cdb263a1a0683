"""Waiting for a group's receipts of certain items."""

from __future__ import annotations

import threading
from collections.abc import Callable, Set

from headrace.codec import avro
from headrace.errors import PoisonError, TransientError
from headrace.events import Outcome, UploadAck
from headrace.kafka.clients import Cluster
from headrace.kafka.reading import read_now, watermarks
from headrace.receipts import worst
from headrace.topics import UPLOAD_ACKS

LOOK_EVERY = 0.3  # seconds


def ends_of_receipts(cluster: Cluster) -> dict[int, int]:
    """The offset after the last receipt, by partition.

    Raises MissingTopic, KafkaUnreachable.
    """
    consumer = cluster.consumer(None)
    try:
        name = cluster.topic_name(UPLOAD_ACKS)
        count = cluster.partitions(UPLOAD_ACKS, consumer)
        return {number: watermarks(cluster, consumer, name, number)[1] for number in range(count)}
    finally:
        consumer.close()


class Awaiting:
    """Collects the outcome of each of `items`; `run` returns when all have one, and sets `done`.

    Parameters:
        starts: where to read receipts from; see `ends_of_receipts`.
        report: told how many of the items have one.
    """

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        items: Set[str],
        starts: dict[int, int],
        report: Callable[[int, int], None],
    ) -> None:
        self._cluster = cluster
        self._group = group
        self._items = items
        self._starts = dict(starts)
        self._report = report
        self._ours = f"/{group}/".encode()
        self.outcomes: dict[str, tuple[Outcome, str | None]] = {}

    @property
    def complete(self) -> bool:
        """Whether every item has its receipt."""
        return len(self.outcomes) == len(self._items)

    def run(self, done: threading.Event) -> None:
        """Look until all have a receipt, or somebody else sets `done`. An unwell Kafka is asked again."""
        while not done.is_set():
            try:
                self._look()
            except TransientError as error:
                done.wait(error.retry_after)
                continue
            self._report(len(self.outcomes), len(self._items))
            if self.complete:
                done.set()
            done.wait(LOOK_EVERY)

    def _look(self) -> None:
        for batch in read_now(self._cluster, UPLOAD_ACKS, starts=self._starts):
            for message in batch:
                self._starts[message.partition()] = message.offset() + 1
                value = message.value()
                if not value or self._ours not in (message.key() or b""):
                    continue
                try:
                    ack = avro.decode(value, UploadAck)
                except PoisonError:
                    continue
                if ack.group == self._group and ack.item in self._items and ack.covers:
                    said = worst(ack.covers)
                    self.outcomes[ack.item] = (said.outcome, said.code)
