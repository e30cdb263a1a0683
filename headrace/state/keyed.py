"""Keyed state of a stage: what is known of each key, kept on a compacted topic, cached per partition on this machine.

The truth is the topic. A stage reads values with `get`, and changes them with `put`, which sends to the topic; a change
counts at once for this process, and reaches the cache when the broker has it. On assignment the cache is brought up to
the topic's end in a thread; until then `ready` is false and the stage waits.
Source: design section 4, "State".
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import confluent_kafka
import structlog

from headrace.errors import FatalError, TransientError
from headrace.kafka.clients import METADATA_SECONDS, Cluster
from headrace.kafka.reading import read_now
from headrace.stage.contract import Context
from headrace.state.store import Store
from headrace.topics import Topic

log = structlog.get_logger(__name__)

# Kafka's default delete.retention.ms: tombstones older than this are gone, so an older cache may hold removed keys.
OLDEST_CACHE_SECONDS = 24 * 3600.0
WRITE_EVERY = 5_000
RETRY_SECONDS = 1.0
READ_AT_ONCE = 2
"""Partitions whose state is read at the same time."""

# State is many small messages, which take several times their size in the client's queue.
_READING = {
    "enable.partition.eof": True,
    "isolation.level": "read_uncommitted",
    "fetch.message.max.bytes": 256 * 1024,
    "queued.min.messages": 10_000,
    "queued.max.messages.kbytes": 1024,
}


_Change = tuple[bytes | None]


class StateNotReady(TransientError):
    """The state of partition {partition} is being read from {topic}; trying again in {retry_after} s."""

    code = "state-not-ready"
    default_retry_after = 0.2
    steady = True


class StateFailed(FatalError):
    """The state of partition {partition} cannot be read: {problem}; the process ends and starts again."""

    code = "state-failed"


class _Part:
    """One assigned partition: its store, and the changes that are not in it yet."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.ready = threading.Event()
        self.gone = threading.Event()
        self.failure: Exception | None = None
        self.topic_id = ""
        # All changes that are not in the store yet; those of them that the broker has, in their order.
        self.recent: dict[bytes, _Change] = {}
        self.confirmed: dict[bytes, _Change] = {}
        self.reaches = 0
        self.thread: threading.Thread | None = None


class KeyedState:
    """The state of one stage. All methods are for the loop's thread; partitions are those of the stage's input.

    Parameters:
        topic: a compacted topic with as many partitions as the stage's input; values are bytes.
        folder: of this process slot: nobody else uses it at the same time.
    """

    def __init__(self, cluster: Cluster, topic: Topic, folder: Path) -> None:
        self._cluster = cluster
        self._topic = topic
        self._folder = folder
        self._parts: dict[int, _Part] = {}
        self._turn = threading.BoundedSemaphore(READ_AT_ONCE)

    def setup(self, context: Context) -> None:
        """Keep the context that changes are sent through."""
        self._context = context

    def assigned(self, partitions: Iterable[int]) -> None:
        """Begin to bring the caches of these partitions up to date."""
        for number in partitions:
            part = _Part(Store(self._folder / self._topic.name / str(number)))
            part.thread = threading.Thread(target=self._catch_up, args=(number, part), daemon=True)
            self._parts[number] = part
            part.thread.start()

    def revoked(self, partitions: Iterable[int]) -> None:
        """Give these partitions up; what was confirmed stays in the cache."""
        for number in partitions:
            part = self._parts.pop(number, None)
            if part is not None:
                self._close(part)

    def close(self) -> None:
        """Give everything up."""
        self.revoked(list(self._parts))

    def require(self, partition: int) -> None:
        """Raise StateNotReady until everything that is known of `partition` is here; StateFailed if it cannot be."""
        part = self._parts[partition]
        if part.failure is not None:
            raise StateFailed(partition=partition, problem=type(part.failure).__name__) from part.failure
        if not part.ready.is_set():
            raise StateNotReady(partition=partition, topic=self._topic.name)

    def get(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of encoded keys, in their order; None where nothing is known."""
        part = self._parts[partition]
        values = part.store.get(keys)
        if not part.recent:
            return values
        recent = part.recent
        return [recent[key][0] if key in recent else value for key, value in zip(keys, values, strict=True)]

    def put(self, partition: int, changes: Mapping[bytes, bytes | None]) -> None:
        """Change what is known of encoded keys (None: nothing any more); a later receipt follows that onto the log."""
        part = self._parts[partition]
        # Each a thing of its own, since two changes may bring the same value.
        own: dict[bytes, _Change] = {key: (value,) for key, value in changes.items()}
        part.recent.update(own)

        def delivered(offset: int) -> None:
            part.confirmed.update(own)
            part.reaches = offset + 1
            if len(part.confirmed) >= WRITE_EVERY:
                self._write(part)

        self._context.emit_all(self._topic, partition, list(changes.items()), delivered)

    def tick(self) -> None:
        """Move confirmed changes into the caches."""
        for part in self._parts.values():
            self._write(part)

    def items(self, partition: int) -> Iterable[tuple[bytes, bytes]]:
        """Everything known in a partition, by encoded key; call `tick` before."""
        return self._parts[partition].store.items()

    @staticmethod
    def _write(part: _Part) -> None:
        if part.confirmed and not part.gone.is_set():
            changes = [(key, value) for key, (value,) in part.confirmed.items()]
            part.store.write(changes, part.topic_id, part.reaches)
            recent = part.recent
            for key, change in part.confirmed.items():
                if recent.get(key) is change:
                    del recent[key]
            part.confirmed = {}

    def _close(self, part: _Part) -> None:
        self._write(part)
        part.gone.set()
        if part.thread is not None:
            part.thread.join()
        part.store.close()

    def _catch_up(self, number: int, part: _Part) -> None:
        while not part.gone.is_set():
            try:
                with self._turn:
                    self._read(number, part)
            except (TransientError, confluent_kafka.KafkaException) as error:
                log.warning("state is not read yet, trying again", partition=number, problem=str(error))
                part.gone.wait(RETRY_SECONDS)
            except Exception as error:
                log.exception("state cannot be read", partition=number)
                part.failure = error
                return
            else:
                return

    def _read(self, number: int, part: _Part) -> None:
        part.topic_id = self._topic_id()
        known = part.store.checkpoint()
        if known is not None and (
            known.topic_id != part.topic_id or time.time() - known.written > OLDEST_CACHE_SECONDS
        ):
            log.info("the cached state is too old or of another topic, reading it anew", partition=number)
            part.store.clear()
            known = None
        start = known.offset if known is not None else 0
        part.reaches = start
        count = 0
        reader = self._cluster.consumer(None, _READING)
        try:
            for batch in read_now(self._cluster, self._topic, starts={number: start}, consumer=reader):
                if part.gone.is_set():
                    return
                changes = [(message.key() or b"", message.value()) for message in batch]
                part.reaches = batch[-1].offset() + 1
                part.store.write(changes, part.topic_id, part.reaches)
                count += len(changes)
        finally:
            reader.close()
        if count:
            log.info("state read", partition=number, messages=count)
        part.ready.set()

    def _topic_id(self) -> str:
        """The id that Kafka gave the topic: another one after it was deleted and created again under its name."""
        name = self._cluster.topic_name(self._topic)
        admin = self._cluster.admin()
        futures: Mapping[str, object] = admin.describe_topics(
            confluent_kafka.TopicCollection([name]), request_timeout=METADATA_SECONDS
        )
        described = futures[name].result(METADATA_SECONDS)  # type: ignore[attr-defined]
        return str(described.topic_id)
