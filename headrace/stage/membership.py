"""Joining a group, and what happens when partitions come and go."""

from __future__ import annotations

import faulthandler
import threading
import time
from collections.abc import Callable, Sequence

import confluent_kafka
import structlog

from headrace import receipts
from headrace.chunks import frames
from headrace.errors import ConfigError, FatalError
from headrace.events import FileEvent
from headrace.kafka.clients import Cluster, GroupRefused, TopicRefused
from headrace.kafka.raw import RawMessage
from headrace.stage import kill
from headrace.stage.assignment import Placement
from headrace.stage.commits import Commits
from headrace.stage.context import StageContext
from headrace.stage.contract import Message, Partition, Stage
from headrace.stage.middleware import Middleware
from headrace.stage.offsets import Track
from headrace.stage.unowned import Unowned
from headrace.topics import UPLOAD_ACKS, Topic

log = structlog.get_logger(__name__)

_FATAL = (confluent_kafka.KafkaError._FATAL, confluent_kafka.KafkaError.FENCED_INSTANCE_ID)  # noqa: SLF001
FORSAKEN_SECONDS = 30.0
REVIVE_SECONDS = 1.0
HUNG_TIMES = 4
STANDARD_ERROR = 2


class ForeignTopic(FatalError):
    """The group {group} was given the topic {topic}, which this stage does not read; another service uses its name."""

    code = "foreign-topic"


class ConsumerFailed(FatalError):
    """The consumer of {group} cannot go on: {problem}."""

    code = "consumer-failed"


class TooFewPartitions(ConfigError):
    """Topic {topic} has {count} partitions, {other} {need}. Receipts go where their input came from."""

    code = "too-few-partitions"


class LogCutOff(FatalError):
    """Partition {partition} of {topic} ends at {end}, before offset {position} where {group} is: the topic was made anew, or has lost its end. The process starts again, and reads it from its beginning."""  # noqa: E501

    code = "log-cut-off"


class Forsaken(FatalError):
    """The consumer of {group} holds partitions that the loop knows nothing of; the process ends and joins anew."""

    code = "forsaken"


class Membership:
    """Keeps `tracks` in step with what the group has given this process. The loop's thread only."""

    consumer: confluent_kafka.Consumer

    def __init__(
        self,
        *,
        cluster: Cluster,
        group: str,
        topics: dict[str, Topic],
        tracks: dict[Partition, Track],
        commits: Commits,
        context: StageContext,
        stage: Stage,
        middleware: Sequence[Middleware],
        stopping: Callable[[], bool],
        forget_held: Callable[[Sequence[Partition]], None],
    ) -> None:
        self._cluster = cluster
        self._group = group
        self._topics = topics
        self._wire = {topic.name: name for name, topic in topics.items()}
        self._tracks = tracks
        self._commits = commits
        self._context = context
        self._stage = stage
        self._middleware = middleware
        self._forget_held = forget_held
        self._placement = Placement(cluster, group, topics)
        self._unowned = Unowned(cluster, group, topics)
        self._failure: FatalError | None = None
        self._forsaken_since: float | None = None
        self.stopping = stopping

    def join(self) -> None:
        """Subscribe; partitions come with later polls."""
        acks = self._cluster.partitions(UPLOAD_ACKS)
        for topic in self._topics.values():
            count = self._cluster.partitions(topic)
            if count > acks:
                raise TooFewPartitions(
                    topic=self._cluster.topic_name(UPLOAD_ACKS),
                    count=acks,
                    other=self._cluster.topic_name(topic),
                    need=count,
                )
        self.consumer.subscribe(
            list(self._topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    def look_for_unowned(self, now: float) -> None:
        """Join anew where partitions are without an owner: the group's leader thereby starts a new round."""
        unowned = self._unowned.found(now)
        if unowned:
            log.warning("nobody has these partitions, joining anew", group=self._group, partitions=sorted(unowned))
            self.consumer.unsubscribe()
            self.join()

    def leave(self, seconds: float) -> None:
        """Close the consumer, but wait no longer than `seconds`.

        A close that meets a rebalance can wait for ever inside the client, with the interpreter's lock held (seen with
        confluent-kafka 2.16.1): no Python runs any more then, so that a thread of C has to end the process.
        """
        faulthandler.dump_traceback_later(HUNG_TIMES * seconds, exit=True, file=STANDARD_ERROR)
        try:
            worker = threading.Thread(target=self.consumer.close, daemon=True)
            worker.start()
            worker.join(seconds)
        finally:
            faulthandler.cancel_dump_traceback_later()
        self._placement.close()

    def check(self) -> None:
        """Raise what went wrong in a callback; notice partitions that nobody works on."""
        if self._failure is not None:
            raise self._failure
        if self._tracks or self._forsaken_since is None:
            return
        if time.monotonic() - self._forsaken_since > FORSAKEN_SECONDS and self.consumer.assignment():
            raise Forsaken(group=self._group)

    def lost_all(self) -> None:
        """Give up everything: another process may have it."""
        self._drop(list(self._tracks), lost=True)
        self._forsaken_since = time.monotonic()

    def on_the_wire(self, partition: Partition) -> confluent_kafka.TopicPartition:
        """The partition as the client knows it."""
        return confluent_kafka.TopicPartition(self._wire[partition.topic], partition.number)

    def resume(self, partition: Partition) -> None:
        """Fetch a paused partition again. Ask `revive` afterwards: the client may miss it."""
        self.consumer.resume([self.on_the_wire(partition)])

    def revive(self, track: Track) -> None:
        """See that a partition which was resumed, and gave nothing since, is not stuck.

        Measured with librdkafka 2.16: a request to resume, and the error of an offset that expired while the partition
        was paused, can both be lost between two of its threads.
        """
        wire = self.on_the_wire(track.partition)
        try:
            beginning, end = self.consumer.get_watermark_offsets(wire, timeout=REVIVE_SECONDS)
        except confluent_kafka.KafkaException:
            return
        if beginning > track.taken:
            self._expired_while_running(track, beginning)
        elif end < track.taken:
            raise self._cut_off(track, end)
        elif end > track.taken:
            self.consumer.resume([wire])

    def lag(self, track: Track) -> int | None:
        """Messages between the track's position and the end of its partition, None while unknown."""
        _, high = self.consumer.get_watermark_offsets(self.on_the_wire(track.partition), cached=True)
        return max(0, high - track.position) if high >= 0 else None

    def consumer_error(self, message: RawMessage) -> None:
        """What librdkafka reports in place of a message: a position that expired, or a condition of its own.

        Raises ConsumerFailed if the client cannot go on, LogCutOff if the log ends before us, GroupRefused or
        TopicRefused if it never may.
        """
        error = message.error()
        if error is None:
            return
        code = error.code()
        if code == confluent_kafka.KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
            partition = Partition(self._topics[message.topic()].name, message.partition())
            if partition in self._tracks:
                track = self._tracks[partition]
                beginning, end = self.consumer.get_watermark_offsets(self.on_the_wire(partition), timeout=10.0)
                if end < track.taken:
                    raise self._cut_off(track, end)
                self._expired_while_running(track, beginning)
        elif code == confluent_kafka.KafkaError.GROUP_AUTHORIZATION_FAILED:
            raise GroupRefused(group=self._group)
        elif code == confluent_kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise TopicRefused(topic=message.topic())
        elif error.fatal() or code in _FATAL:
            # Somebody else may have our partitions: nothing more is done about them.
            self._commits.give_up()
            raise ConsumerFailed(group=self._group, problem=error.str())
        else:
            log.info("kafka reports", group=self._group, problem=error.str())

    def _assigned(self, consumer: confluent_kafka.Consumer, given: list[confluent_kafka.TopicPartition]) -> None:
        # Also called with an empty list; and while stopping, when asking for committed offsets would hang the close.
        foreign = next((part.topic for part in given if part.topic not in self._topics), None)
        if foreign is not None:
            self._failure = ForeignTopic(group=self._group, topic=foreign)
        if not given or self.stopping() or self._failure is not None:
            consumer.incremental_assign(given)
            return
        try:
            tracks, gaps = self._placement.place(consumer, given, self.stopping)
        except FatalError as error:
            if not self.stopping():
                self._failure = error
            return
        self._tracks.update(tracks)
        self._forsaken_since = None
        for part in given:
            part.offset = tracks[Partition(self._topics[part.topic].name, part.partition)].position
        consumer.incremental_assign(given)
        partitions = list(tracks)
        log.info("partitions assigned", group=self._group, partitions=sorted(part.number for part in partitions))
        self._stage.assigned(partitions)
        for middleware in reversed(self._middleware):
            middleware.after_assign(partitions)
        for track, start, end in gaps:
            self._report_expired(track, start, end)

    def _revoked(self, _consumer: confluent_kafka.Consumer, taken: list[confluent_kafka.TopicPartition]) -> None:
        partitions = [Partition(self._topics[part.topic].name, part.partition) for part in taken]
        kill.point("loop.during-revoke")
        self._commits.revoking(partitions)
        self._drop(partitions, lost=False)

    def _lost(self, _consumer: confluent_kafka.Consumer, taken: list[confluent_kafka.TopicPartition]) -> None:
        partitions = [Partition(self._topics[part.topic].name, part.partition) for part in taken]
        self._drop(partitions, lost=True)

    def _drop(self, partitions: Sequence[Partition], *, lost: bool) -> None:
        known = [partition for partition in partitions if partition in self._tracks]
        if not known:
            return
        log.info("partitions revoked", group=self._group, partitions=sorted(part.number for part in known), lost=lost)
        self._stage.revoked(known, lost)
        self._context.forget(known)
        self._forget_held(known)
        for partition in known:
            del self._tracks[partition]
        for middleware in reversed(self._middleware):
            middleware.after_revoke(known, lost)

    def _cut_off(self, track: Track, end: int) -> LogCutOff:
        topic, number = self._wire[track.partition.topic], track.partition.number
        # What it has stands for other messages than those that are there now: nothing more is said of it.
        self._commits.give_up()
        return LogCutOff(group=self._group, topic=topic, partition=number, end=end, position=track.taken)

    def _expired_while_running(self, track: Track, beginning: int) -> None:
        wire = self.on_the_wire(track.partition)
        start, track.position = track.position, max(track.position, beginning)
        track.taken = wire.offset = max(track.taken, track.position)
        # The client has stopped fetching this partition and refuses to seek in it: it is taken up anew.
        self.consumer.incremental_unassign([wire])
        self.consumer.incremental_assign([wire])
        self._report_expired(track, start, beginning)

    def _report_expired(self, track: Track, start: int, end: int) -> None:
        """Messages expired unread: say so for every file among them, so that its source sends it again."""
        topic = next(topic for topic in self._topics.values() if topic.name == track.partition.topic)
        log.error(
            "messages expired before they were read",
            group=self._group, topic=topic.name, partition=track.partition.number, first=start, last=end - 1,
        )  # fmt: skip
        for event in self._placement.expired_files(topic, track, start, end):
            self._fail_expired(track, event, end)

    def _fail_expired(self, track: Track, event: FileEvent, end: int) -> None:
        first = Message(
            partition=track.partition,
            offset=event.first or 0,
            time=event.at // 1000,
            key=(event.path_id.hex(), event.file.hex()),
            path=event.path_id.hex(),
            item=event.file.hex(),
            value=frames.Close(v=1, abort="expired"),
            raw=b"",
            raw_key=None,
        )
        last = end - 1 if event.last is None else event.last
        self._context.open(first.item, first)
        self._context.receipt(
            receipts.settle(self._group, first, last, "failed", code="expired", file=event.file, job=event.job)
        )
