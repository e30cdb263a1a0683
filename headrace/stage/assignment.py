"""Where a process goes on when it is given a partition: from the committed low-water mark, knowing the receipts.

Source: design section 4, "Items that span messages".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import confluent_kafka
import structlog

from headrace import topics
from headrace.codec import avro
from headrace.errors import FatalError, PoisonError, TransientError
from headrace.events import FileEvent, UploadAck
from headrace.kafka.clients import Cluster
from headrace.kafka.reading import read_now, watermarks
from headrace.keys import decode_key
from headrace.stage.contract import Partition
from headrace.stage.offsets import Mark, Track, parse_metadata
from headrace.topics import Topic

log = structlog.get_logger(__name__)

COMMITTED_SECONDS = 10.0
AGAIN_SECONDS = 0.5
SAY_EVERY = 20
GIVE_UP_SECONDS = 120.0
# Receipts are looked for this much before the message at low where only a time is known: clocks of brokers differ.
CLOCK_MARGIN_MS = 60_000


class AssignmentFailed(FatalError):
    """Kafka did not say within {seconds} s where the group {group} stands: {problem}; the process starts again."""

    code = "assignment-failed"


class Placement:
    """Finds the place to go on from, for the partitions of one group."""

    def __init__(self, cluster: Cluster, group: str, by_name: dict[str, Topic]) -> None:
        self._cluster = cluster
        self._group = group
        self._by_name = by_name
        self._reader = self._new_reader()

    def close(self) -> None:
        """Give up the reading client."""
        self._reader.close()

    def place(
        self,
        consumer: confluent_kafka.Consumer,
        given: Sequence[confluent_kafka.TopicPartition],
        stopping: Callable[[], bool],
    ) -> tuple[dict[Partition, Track], list[tuple[Track, int, int]]]:
        """A track for each given partition, and for those whose committed offset has expired the gap (from, to).

        Tries until Kafka answers; raises AssignmentFailed after two minutes, or when `stopping`.
        """
        deadline = time.monotonic() + GIVE_UP_SECONDS
        attempts = 0
        while True:
            try:
                return self._place(consumer, given)
            except (confluent_kafka.KafkaException, TransientError) as error:
                problem = error.args[0].str() if isinstance(error, confluent_kafka.KafkaException) else str(error)
                if stopping() or time.monotonic() > deadline:
                    raise AssignmentFailed(seconds=GIVE_UP_SECONDS, group=self._group, problem=problem) from error
                if attempts % SAY_EVERY == 0:
                    log.warning("kafka does not say where we stand, asking again", group=self._group, problem=problem)
                # After leaders have changed, a client may say for good that it knows no such partition.
                self._reader.close()
                time.sleep(AGAIN_SECONDS)
                self._reader = self._new_reader()
                attempts += 1

    def _new_reader(self) -> confluent_kafka.Consumer:
        return self._cluster.consumer(None, {"enable.partition.eof": True})

    def _place(
        self, consumer: confluent_kafka.Consumer, given: Sequence[confluent_kafka.TopicPartition]
    ) -> tuple[dict[Partition, Track], list[tuple[Track, int, int]]]:
        tracks: dict[Partition, Track] = {}
        gaps: list[tuple[Track, int, int]] = []
        starts: dict[int, int] = {}
        ends: dict[int, int] = {}
        for committed in consumer.committed(list(given), timeout=COMMITTED_SECONDS):
            if committed.error is not None:
                raise confluent_kafka.KafkaException(committed.error)
            number = committed.partition
            partition = Partition(self._by_name[committed.topic].name, number)
            beginning, end = watermarks(self._cluster, self._reader, committed.topic, number)
            acks_name = self._cluster.topic_name(topics.UPLOAD_ACKS)
            acks_beginning, acks_end = watermarks(self._cluster, self._reader, acks_name, number)
            low = committed.offset if committed.offset >= 0 else beginning
            known = parse_metadata(committed.metadata)
            if low > end:
                log.error(
                    "the topic ends before the committed offset: made anew, or cut off; it is read from its beginning",
                    group=self._group, topic=committed.topic, partition=number, committed=low, end=end,
                )  # fmt: skip
                position = low = beginning
                # Older receipts are of messages that are gone, whose offsets others may have now.
                receipts = self._receipts_by_time(committed.topic, number, low, acks_end)
            elif known is not None:
                position, receipts = known
            elif committed.offset < 0:
                position, receipts = beginning, acks_beginning
            else:
                position, receipts = low, self._receipts_by_time(committed.topic, number, low, acks_beginning)
            start = min(max(low, beginning), end)
            track = Track(partition, Mark(start, max(position, start), receipts), acks_end)
            tracks[partition] = track
            starts[number] = min(receipts, starts.get(number, receipts))
            ends[number] = acks_end
            if low < beginning:
                gaps.append((track, low, beginning))
        self._learn(tracks, starts, ends)
        return tracks, gaps

    def _learn(self, tracks: dict[Partition, Track], starts: dict[int, int], ends: dict[int, int]) -> None:
        ours = f"/{self._group}/".encode()
        by_number: dict[int, list[Track]] = {}
        for partition, track in tracks.items():
            by_number.setdefault(partition.number, []).append(track)
        for batch in read_now(self._cluster, topics.UPLOAD_ACKS, starts=starts, ends=ends, consumer=self._reader):
            for message in batch:
                key = message.key()
                value = message.value()
                if key is None or ours not in key:
                    continue
                if value is None:
                    parts = decode_key(key)
                    for track in by_number.get(message.partition(), ()):
                        track.withdraw(parts[-1], parts[0])
                    continue
                try:
                    ack = avro.decode(value, UploadAck)
                except PoisonError as error:
                    log.warning("a receipt cannot be read", offset=message.offset(), problem=str(error))
                    continue
                if ack.group == self._group:
                    for track in by_number.get(ack.partition, ()):
                        track.learn(ack, decode_key(key)[0])

    def _receipts_by_time(self, topic: str, number: int, low: int, otherwise: int) -> int:
        """Where to read receipts from when a tool set the offset: by the time of the message there, less a minute."""
        wire = self._by_name[topic]
        for batch in read_now(self._cluster, wire, starts={number: low}, ends={number: low + 1}, consumer=self._reader):
            for message in batch:
                when = message.timestamp()[1] - CLOCK_MARGIN_MS
                acks = self._cluster.topic_name(topics.UPLOAD_ACKS)
                found = self._reader.offsets_for_times(
                    [confluent_kafka.TopicPartition(acks, number, when)], timeout=COMMITTED_SECONDS
                )[0]
                if found.error is None and found.offset >= 0:
                    return found.offset
        return otherwise

    def expired_files(self, topic: Topic, track: Track, start: int, end: int) -> list[FileEvent]:
        """The files of `topic` that lost frames in offsets `start` to `end` and that no receipt of the group covers.

        They are known from the topic's index, since their frames are gone.
        """
        if topic.index is None:
            return []
        number = track.partition.number
        latest: dict[bytes, FileEvent] = {}
        beginning, _ = watermarks(self._cluster, self._reader, self._cluster.topic_name(topic.index), number)
        for batch in read_now(self._cluster, topic.index, starts={number: beginning}, consumer=self._reader):
            for message in batch:
                value = message.value()
                if value is not None:
                    try:
                        event = avro.decode(value, FileEvent)
                    except PoisonError as error:
                        log.warning("a file event cannot be read", offset=message.offset(), problem=str(error))
                        continue
                    latest[event.file] = event
        return [
            event
            for event in latest.values()
            if (event.topic or topics.CHUNKS.name) == topic.name
            and event.partition == number
            and event.first is not None
            and event.first < end
            and (event.last is None or event.last >= start)
            and event.state in ("sending", "announced")
            and not track.covered(event.file.hex(), event.first)
        ]
