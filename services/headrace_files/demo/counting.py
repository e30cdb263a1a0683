"""What has arrived where, counted from the log while it happens."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import confluent_kafka

from headrace.codec import avro
from headrace.errors import PoisonError
from headrace.events import FileEvent, UploadAck
from headrace.kafka.clients import Cluster
from headrace.kafka.raw import RawMessage, consume
from headrace.topics import FILES, UPLOAD_ACKS


@dataclass
class Tally:
    """Files by id with their bytes, so that what is said twice counts once."""

    sizes: dict[bytes, int] = field(default_factory=dict)
    size: int = 0

    def add(self, file: bytes, size: int) -> None:
        """Count a file."""
        if file not in self.sizes:
            self.sizes[file] = size
            self.size += size

    @property
    def files(self) -> int:
        """How many files."""
        return len(self.sizes)


class Counter:
    """Follows the topics of announcements and receipts from the beginning, in a thread of its own."""

    def __init__(self, cluster: Cluster) -> None:
        self.sent = Tally()
        self.delivered: dict[str, Tally] = {}
        self._stop = threading.Event()
        self._cluster = cluster
        self._consumer = cluster.consumer(None)
        self._thread = threading.Thread(target=self._follow, name="counter", daemon=True)
        self._consumer.assign(
            [
                confluent_kafka.TopicPartition(cluster.topic_name(topic), number, confluent_kafka.OFFSET_BEGINNING)
                for topic in (FILES, UPLOAD_ACKS)
                for number in range(cluster.partitions(topic))
            ]
        )
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def tally(self, service: str) -> Tally:
        """What the groups of a service have delivered."""
        begin = f"{self._cluster.settings.prefix}{service}."
        return next((tally for group, tally in self.delivered.items() if group.startswith(begin)), Tally())

    def _follow(self) -> None:
        files = self._cluster.topic_name(FILES)
        while not self._stop.is_set():
            for message in (*consume(self._consumer, 1, 0.2), *consume(self._consumer, 500, 0)):
                if message.error() is None:
                    try:
                        self._count(message, is_file=message.topic() == files)
                    except PoisonError:
                        # Another program's message; the services put it aside, here it only is not counted.
                        continue

    def _count(self, message: RawMessage, *, is_file: bool) -> None:
        value = message.value() or b""
        if is_file:
            event = avro.decode(value, FileEvent)
            if event.state == "announced":
                self.sent.add(event.file, event.size or 0)
            return
        ack = avro.decode(value, UploadAck)
        if ack.file is not None and ack.covers[0].outcome == "delivered":
            self.delivered.setdefault(ack.group, Tally()).add(ack.file, ack.size or 0)
