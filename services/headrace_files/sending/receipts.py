"""Following `headrace.upload-acks`: what became of the files that were sent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import confluent_kafka
import structlog

from headrace.codec import avro
from headrace.errors import HeadraceError, PoisonError
from headrace.events import UploadAck
from headrace.kafka.clients import Cluster
from headrace.kafka.reading import watermarks
from headrace.keys import Key, decode_key
from headrace.topics import UPLOAD_ACKS

BATCH = 500
PATIENCE = 0.25  # seconds

log = structlog.get_logger(__name__)


class ReceiptFollower:
    """Reads receipts in a thread of its own until `stop`.

    Parameters:
        starts: offset by partition; None: everything, from the beginning.
        wanted: whether a receipt with this key (path id, group, file id) is of interest; decoding the others is saved.
        deliver: gets each wanted receipt, in log order per partition.
        caught_up: called once, when everything that was there at the start has been delivered.
    """

    def __init__(
        self,
        cluster: Cluster,
        wanted: Callable[[Key], bool],
        deliver: Callable[[Key, UploadAck], None],
        caught_up: Callable[[], None] = lambda: None,
        starts: Mapping[int, int] | None = None,
    ) -> None:
        self._cluster = cluster
        self._wanted = wanted
        self._deliver = deliver
        self._caught_up = caught_up
        self._stop = threading.Event()
        self.failure: HeadraceError | None = None
        self._consumer = cluster.consumer(
            None,
            {
                "enable.partition.eof": True,
                "isolation.level": "read_uncommitted",
                # Retention may take what was to be read next; what is gone is of no interest here.
                "auto.offset.reset": "earliest",
                "queued.max.messages.kbytes": 4 * 1024,
            },
        )
        self._behind = self._assign(starts)
        self._thread = threading.Thread(target=self._follow, name="receipts", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(5.0)

    def _assign(self, starts: Mapping[int, int] | None) -> set[int]:
        name = self._cluster.topic_name(UPLOAD_ACKS)
        numbers = range(self._cluster.partitions(UPLOAD_ACKS, self._consumer)) if starts is None else sorted(starts)
        first = confluent_kafka.OFFSET_BEGINNING
        self._consumer.assign(
            [
                confluent_kafka.TopicPartition(name, number, first if starts is None else starts[number])
                for number in numbers
            ]
        )
        return set(numbers)

    def _follow(self) -> None:
        try:
            while not self._stop.is_set():
                batch = self._consumer.consume(1, PATIENCE)
                batch += self._consumer.consume(BATCH, 0)
                for message in batch:
                    self._take(message)
        except HeadraceError as error:
            self.failure = error
        except confluent_kafka.KafkaException as error:
            log.warning("receipts cannot be read", problem=error.args[0].str())
        finally:
            self._consumer.close()

    def _take(self, message: confluent_kafka.Message) -> None:
        problem = message.error()
        if problem is not None:
            if problem.code() == confluent_kafka.KafkaError._PARTITION_EOF:  # noqa: SLF001 - its only name
                self._reached_end(message.partition())
            return
        value = message.value()
        if value is None:
            return
        try:
            key = decode_key(message.key())
            if self._wanted(key):
                self._deliver(key, avro.decode(value, UploadAck))
        except PoisonError as error:
            log.warning(
                "receipt cannot be read", code=error.code, partition=message.partition(), offset=message.offset()
            )

    def _reached_end(self, number: int | None) -> None:
        if number in self._behind:
            self._behind.discard(number)
            if not self._behind:
                self._caught_up()


def ends(cluster: Cluster) -> dict[int, int]:
    """The offset after the last receipt, by partition."""
    consumer = cluster.consumer(None)
    try:
        name = cluster.topic_name(UPLOAD_ACKS)
        return {
            number: watermarks(cluster, consumer, name, number)[1]
            for number in range(cluster.partitions(UPLOAD_ACKS, consumer))
        }
    finally:
        consumer.close()


class Failures:
    """Tells of versions that a receiver failed to take, once each, and never of what was made good later.

    Parameters:
        known: whether a path (16 bytes) is one of ours.
        failed: gets the path id, the version and the code, from the follower's thread.
    """

    def __init__(
        self, cluster: Cluster, known: Callable[[bytes], bool], failed: Callable[[bytes, bytes, str], None]
    ) -> None:
        self._known = known
        self._failed = failed
        self._early: dict[Key, str] | None = {}
        self._follower = ReceiptFollower(cluster, self._wanted, self._deliver, self._caught_up)

    def stop(self) -> None:
        """End the thread."""
        self._follower.stop()

    def _wanted(self, key: Key) -> bool:
        return len(key) == 3 and len(key[0]) == 32 and len(key[2]) == 32 and self._known(_id(key[0]))

    def _deliver(self, key: Key, ack: UploadAck) -> None:
        code = next((cover.code or cover.outcome for cover in ack.covers if cover.outcome == "failed"), None)
        if self._early is not None:
            # While old receipts are read, a later one of the same group may still say that all is well.
            if code is None:
                self._early.pop(key, None)
            else:
                self._early[key] = code
        elif code is not None:
            self._failed(_id(key[0]), _id(key[2]), code)

    def _caught_up(self) -> None:
        early, self._early = self._early or {}, None
        for key, code in early.items():
            self._failed(_id(key[0]), _id(key[2]), code)


def _id(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
