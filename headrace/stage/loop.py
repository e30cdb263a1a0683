"""The loop that runs a stage: consume, decode, handle, flush, receipts, commit.

It polls briefly, hands decoded messages to the stage, bad ones to the dead letters, and commits at most every 250 ms
what is closed. It never waits for a delivery report. Source: design section 4, "Stage loop".
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import structlog

from headrace.errors import FatalError, HeadraceError, PermanentError, TransientError
from headrace.kafka.clients import Cluster, Properties
from headrace.kafka.raw import RawMessage, consume
from headrace.stage.briskness import IDLE_SECONDS, Briskness
from headrace.stage.commits import Commits
from headrace.stage.context import StageContext
from headrace.stage.contract import Message, Partition, Stage
from headrace.stage.decoding import Decoder
from headrace.stage.delivered import Deliveries
from headrace.stage.held import HELD_UNPAUSED_BYTES, LONGEST_UNPAUSED_WAIT, Held
from headrace.stage.membership import Membership
from headrace.stage.middleware import Middleware
from headrace.stage.middleware.retries import delay
from headrace.stage.middleware.zombie import Lease
from headrace.stage.offsets import Track
from headrace.stage.outbox import Outbox

log = structlog.get_logger(__name__)

BATCH_BYTES = 8 * 1024 * 1024
BATCH_MESSAGES = 500
TICK_SECONDS = 1.0
CLOSE_SECONDS = 5.0
LOOK_BACK_SECONDS = 2.0
WATCH_RESUMED_SECONDS = 30.0


class Unexpected(PermanentError):
    """The stage {stage} failed on this message with {error}; that is a bug: report it, then re-drive the message."""

    code = "unexpected"


class Loop:
    """Runs one stage as one member of its group, until told to stop.

    Parameters:
        sink: names the destination; part of the group's name.
        session: the group's session time-out in seconds.
        instance: `group.instance.id` for static membership, or None.
        properties: more librdkafka properties for the consumer.
    """

    def __init__(
        self,
        stage: Stage,
        cluster: Cluster,
        *,
        sink: str,
        session: float = 10.0,
        instance: str | None = None,
        middleware: Sequence[Middleware] = (),
        properties: Properties | None = None,
    ) -> None:
        self._stage = stage
        self._middleware = tuple(middleware)
        self.group = cluster.group_name(stage.name, sink)
        by_name = {cluster.topic_name(topic): topic for topic in stage.reads}
        wire = {topic.name: name for name, topic in by_name.items()}
        self._decoder = Decoder(by_name, self.group)
        self._tracks: dict[Partition, Track] = {}
        self._held: dict[Partition, Held] = {}
        self._resumed: dict[Partition, tuple[float, int]] = {}
        self._lease = Lease(session)
        self._producer = cluster.producer()
        self._outbox = Outbox(cluster, self._producer)
        self._stop = threading.Event()
        self._deliveries = Deliveries(cluster, self.group)
        self.context = StageContext(
            group=self.group,
            stage=stage.name,
            cluster=cluster,
            outbox=self._outbox,
            lease=self._lease,
            tracks=self._tracks,
            middleware=self._middleware,
            pause=self._pause,
            caught_up=self._caught_up,
            wire=wire,
            deliveries=self._deliveries,
        )
        self._commits = Commits(self._tracks, self._outbox, self._lease, session, self._middleware, wire)
        self._membership = Membership(
            cluster=cluster,
            group=self.group,
            topics=by_name,
            tracks=self._tracks,
            commits=self._commits,
            context=self.context,
            stage=stage,
            middleware=self._middleware,
            stopping=self._stop.is_set,
            forget_held=self._forget_held,
        )
        own: dict[str, object] = {"session.timeout.ms": int(session * 1000)}
        if instance is not None:
            own["group.instance.id"] = instance
        self._consumer = cluster.consumer(self.group, own | dict(properties or {}), on_commit=self._commits.answered)
        self._commits.consumer = self._consumer
        self._membership.consumer = self._consumer
        self._average_bytes = 1024.0
        self._next_tick = 0.0
        self._idle_until = 0.0
        self._briskness = Briskness()
        self._flush_attempt = 0

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then finish what is finished, commit, and leave.

        Raises FatalError if a promise is broken: then the process must end, and start again.
        """
        self._stop = stop
        self._membership.stopping = stop.is_set
        self._stage.setup(self.context)
        self._membership.join()
        try:
            while not stop.is_set():
                self._turn()
        finally:
            self._leave()

    def _turn(self) -> None:
        batch = self._consume()
        if self._lease.slept() and self._tracks and not self._commits.prove_alive():
            # Somebody else may have our partitions by now: what was fetched and begun is theirs.
            self._membership.lost_all()
            batch = []
        self._membership.check()
        now = time.monotonic()
        if now >= self._idle_until:
            self._redeliver(now)
            if batch:
                self._take(batch)
            self._flush(now)
        elif batch:
            self._take(batch)
        self.context.look_back()
        self._outbox.poll()
        if now >= self._next_tick:
            self._next_tick = now + TICK_SECONDS
            self._tick(now)
        self._commits.when_due()

    def _consume(self) -> Sequence[RawMessage]:
        now = time.monotonic()
        first = consume(self._consumer, 1, self._briskness.wait(now, unacknowledged=self._outbox.waiting))
        if first:
            self._briskness.stir(now)
        count = min(BATCH_MESSAGES, int(BATCH_BYTES / self._average_bytes)) - 1
        if not first or count < 1:
            return first
        return [*first, *consume(self._consumer, count, 0)]

    def _take(self, raw_messages: Sequence[RawMessage]) -> None:
        """Decode, and hand to the stage what belongs to it."""
        batch: list[Message] = []
        passed: dict[Partition, int] = {}
        size = 0
        for raw in raw_messages:
            if raw.error() is not None:
                self._membership.consumer_error(raw)
                continue
            partition = self._decoder.partition(raw)
            track, offset = self._tracks.get(partition), raw.offset()
            if track is None or offset < track.taken:
                # Revoked, or given to us twice: the client may fetch from its last position again.
                continue
            track.taken = offset + 1
            size += len(raw)
            try:
                message = self._decoder.decode(raw, partition)
            except PermanentError as error:
                # What came before it is handled first: its item may be opened there, and log order is kept.
                self._deliver(batch)
                batch = []
                if partition in self._tracks:
                    self.context.poison(partition, raw, error)
                    self._pass(partition, offset + 1)
                continue
            if message is None:
                passed[partition] = offset + 1
                continue
            held = self._held.get(partition)
            if held is not None:
                held.add(message)
                if held.size > HELD_UNPAUSED_BYTES:
                    self._stop_fetching(partition, held)
            else:
                batch.append(message)
        if raw_messages:
            self._average_bytes += 0.2 * (max(1.0, size / len(raw_messages)) - self._average_bytes)
        self._deliver(batch)
        for partition, offset in passed.items():
            self._pass(partition, offset)

    def _pass(self, partition: Partition, offset: int) -> None:
        """There is nothing to handle before `offset`, but for what is held: that must not be committed."""
        held, track = self._held.get(partition), self._tracks.get(partition)
        if held is not None:
            held.passed = max(held.passed, offset)
        elif track is not None:
            track.position = max(track.position, offset)

    def _deliver(self, batch: Sequence[Message], attempt: int = 0) -> None:
        """Give a batch to the stage; on failure partition by partition, then message by message."""
        if not batch:
            return
        error = self._handle(batch)
        if error is None:
            self._advance(batch)
            return
        by_partition: dict[Partition, list[Message]] = {}
        for message in batch:
            by_partition.setdefault(message.partition, []).append(message)
        if len(by_partition) > 1:
            for part in by_partition.values():
                self._deliver(part, attempt)
            return
        if isinstance(error, TransientError):
            self._hold(batch, error, attempt + 1)
        elif len(batch) > 1:
            for index, message in enumerate(batch):
                self._deliver([message], attempt)
                if message.partition in self._held:
                    for later in batch[index + 1 :]:
                        self._held[message.partition].add(later)
                    return
        else:
            self.context.dead_letter(batch[0], error)
            self._put_aside(batch[0])
            self._advance(batch)

    def _put_aside(self, message: Message) -> None:
        try:
            self._stage.put_aside(message)
        except FatalError:
            raise
        except Exception as error:
            log.error(
                "stage failed to forget a message", stage=self._stage.name, error=type(error).__name__, exc_info=True
            )

    def _handle(self, batch: Sequence[Message]) -> HeadraceError | None:
        for middleware in self._middleware:
            middleware.before_handle(batch)
        failure: HeadraceError | None = None
        try:
            self._stage.handle(batch)
        except FatalError:
            raise
        except (TransientError, PermanentError) as error:
            # Its traceback would hold this frame, which holds it, and with both the batch.
            failure = error.with_traceback(None)
        except Exception as error:
            # A bug must not stop the partition.
            log.error("stage failed unexpectedly", stage=self._stage.name, error=type(error).__name__, exc_info=True)
            failure = Unexpected(stage=self._stage.name, error=type(error).__name__)
        for middleware in reversed(self._middleware):
            middleware.after_handle(batch, failure)
        return failure

    def _advance(self, batch: Sequence[Message]) -> None:
        # Messages are in log order, so the last one of each partition stays.
        last = {message.partition: message.offset for message in batch}
        for partition, offset in last.items():
            track = self._tracks.get(partition)
            if track is not None:
                track.position = max(track.position, offset + 1)

    def _hold(self, batch: Sequence[Message], error: TransientError, attempt: int) -> None:
        partition = batch[0].partition
        seconds = delay(error, attempt)
        held = Held.of(batch, time.monotonic() + seconds, attempt)
        self._held[partition] = held
        if seconds > LONGEST_UNPAUSED_WAIT:
            self._stop_fetching(partition, held)
        if not error.steady:
            log.warning(
                "paused", group=self.group, partition=partition.number, seconds=round(seconds, 1), why=str(error)
            )
        self._tell_pause([partition], seconds, str(error))

    def _stop_fetching(self, partition: Partition, held: Held) -> None:
        if not held.paused:
            held.paused = True
            self._consumer.pause([self._membership.on_the_wire(partition)])

    def _pause(self, partitions: Sequence[Partition], seconds: float, reason: str) -> None:
        until = time.monotonic() + seconds
        for partition in partitions:
            if partition not in self._tracks:
                continue
            held = self._held.setdefault(partition, Held(until))
            held.until = max(held.until, until)
            self._stop_fetching(partition, held)
        self._tell_pause(partitions, seconds, reason)

    def _caught_up(self, track: Track) -> bool:
        return track.partition not in self._held and self._membership.lag(track) == 0 and self._lease.valid()

    def _tell_pause(self, partitions: Sequence[Partition], seconds: float, reason: str) -> None:
        for middleware in reversed(self._middleware):
            middleware.after_pause(partitions, seconds, reason)

    def _redeliver(self, now: float) -> None:
        for partition, held in list(self._held.items()):
            if held.until > now:
                continue
            if partition not in self._tracks:
                del self._held[partition]
                continue
            messages = list(held.messages)
            held.messages.clear()
            del self._held[partition]
            self._deliver(messages, held.attempt)
            again = self._held.get(partition)
            if again is not None:
                again.paused, again.passed = again.paused or held.paused, max(again.passed, held.passed)
                continue
            self._pass(partition, held.passed)
            if held.paused:
                self._membership.resume(partition)
                self._resumed[partition] = (now + WATCH_RESUMED_SECONDS, self._tracks[partition].taken)
                for middleware in reversed(self._middleware):
                    middleware.after_resume([partition])

    def _watch_resumed(self, now: float) -> None:
        for partition, (until, taken) in list(self._resumed.items()):
            track = self._tracks.get(partition)
            if track is None or track.taken != taken or partition in self._held or now > until:
                del self._resumed[partition]
            else:
                self._membership.revive(track)
                self._resumed[partition] = (until, track.taken)

    def _forget_held(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            self._held.pop(partition, None)

    def _flush(self, now: float) -> None:
        try:
            self._stage.flush()
            self._flush_attempt = 0
        except TransientError as error:
            self._flush_attempt += 1
            seconds = delay(error, self._flush_attempt)
            self._idle_until = now + seconds
            if not error.steady:
                log.warning("paused", group=self.group, seconds=round(seconds, 1), why=str(error))
            self._pause(list(self._tracks), seconds, str(error))

    def _tick(self, now: float) -> None:
        try:
            self._stage.tick(time.time())
        except TransientError as error:
            self._pause(list(self._tracks), delay(error, 1), str(error))
        self._watch_resumed(now)
        self._membership.look_for_unowned(now)
        for middleware in self._middleware:
            middleware.every_second(list(self._tracks.values()), self._membership.lag)
        for partition, held in self._held.items():
            if held.until > now:
                for middleware in reversed(self._middleware):
                    middleware.after_pause([partition], held.until - now, "still paused")

    def _look_back(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self.context.look_back() and time.monotonic() < deadline:
            time.sleep(IDLE_SECONDS)

    def _leave(self) -> None:
        """Finish what is finished; each step is bounded, since the broker may be away."""
        # Without the lease the partitions may be another's: then nothing more is said of them.
        lost = not self._lease.valid()
        try:
            if not lost:
                self._stage.flush()
            self._stage.revoked(list(self._tracks), lost=lost)
            self._look_back(LOOK_BACK_SECONDS)
        except HeadraceError as error:
            log.warning("flush at the end failed; the work is done again at the next start", error=str(error))
        try:
            self._outbox.flush(CLOSE_SECONDS)
            self._commits.last(CLOSE_SECONDS)
        finally:
            # Their close asks for a revoke; the stage has had its own above.
            self._tracks.clear()
            self._stage.close()
            self._deliveries.close()
            self._membership.leave(CLOSE_SECONDS)
