"""A bounded pass: a stage handles a stretch of the log once, outside its group, and nothing is committed.

This is how one file is made again while its service runs, and how everything is rebuilt in another place. The stage is
the service's own; what surrounds it here is the loop without a group: the log is read from a place to a place, and a
pause is a wait. Source: design section 4, "Replay".
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field

from headrace.chunks.frames import Close, Data, Open, Whole
from headrace.chunks.ranges import Ranges
from headrace.errors import FatalError, HeadraceError, PermanentError, PoisonError, TransientError
from headrace.events import Outcome, UploadAck
from headrace.kafka.clients import Cluster
from headrace.kafka.raw import RawMessage
from headrace.kafka.reading import read_now
from headrace.keys import decode_key
from headrace.proof.replay import Window, chunk_bounds
from headrace.receipts import worst
from headrace.stage.context import StageContext
from headrace.stage.contract import Message, Partition, Stage, Version
from headrace.stage.decoding import Decoder
from headrace.stage.middleware import Middleware
from headrace.stage.middleware.retries import delay
from headrace.stage.middleware.zombie import Lease
from headrace.stage.offsets import Mark, Track
from headrace.stage.outbox import Delivered, Headers, Outbox
from headrace.topics import CHUNK_TOPICS, Topic

TURN_SECONDS = 0.02
TICK_SECONDS = 1.0
LOG_SECONDS = 30.0


class PassStopped(FatalError):
    """The replay was stopped before its end; what it has made is whole, start it again for the rest."""

    code = "pass-stopped"


@dataclass
class Tally:
    """What became of each item: its outcome and code. `incomplete`: items whose frames are not all in the stretch."""

    outcomes: dict[str, tuple[Outcome, str | None]] = field(default_factory=dict)
    incomplete: set[str] = field(default_factory=set)
    size: int = 0

    def counts(self) -> Counter[Outcome]:
        """How many items had which outcome."""
        return Counter(outcome for outcome, _ in self.outcomes.values())


class Nowhere(Outbox):
    """An outbox whose messages go nowhere and arrive at once: a rebuild elsewhere is not in the books."""

    def send(
        self,
        topic: Topic,  # noqa: ARG002
        key: bytes | None,  # noqa: ARG002
        value: bytes | None,  # noqa: ARG002
        partition: int,  # noqa: ARG002
        headers: Headers = (),  # noqa: ARG002
        delivered: Delivered | None = None,
        *,
        awaited: bool = True,  # noqa: ARG002
    ) -> None:
        """Say that it has arrived."""
        if delivered is not None:
            delivered(-1)


class _Recorder(Middleware):
    def __init__(self, tally: Tally, settled: Callable[[str], None]) -> None:
        self._tally = tally
        self._settled = settled

    def after_receipt(self, ack: UploadAck) -> None:
        """Keep the last word on each item."""
        part = worst(ack.covers)
        self._tally.outcomes[ack.item] = (part.outcome, part.code)
        self._tally.size += ack.size or 0
        self._settled(ack.item)


class _Begun:
    """An item whose first frame was met: which of its bytes were, too."""

    def __init__(self) -> None:
        self.ranges = Ranges()
        self.size: int | None = None

    @property
    def complete(self) -> bool:
        return self.size is not None and self.ranges.whole(self.size)


class BoundedPass:
    """One pass of a stage over a window of the topics that it reads files from.

    Parameters:
        group: whose receipts these are, if they go onto the log.
        items: only these; None: all.
        newest: the newest delivered version by path id, so that an old one does not replace it.
        in_books: whether receipts and dead letters go onto the log.
    """

    def __init__(
        self,
        stage: Stage,
        cluster: Cluster,
        group: str,
        window: Window,
        *,
        items: Container[str] | None = None,
        newest: Mapping[str, Version] | None = None,
        in_books: bool,
    ) -> None:
        self._stage = stage
        self._cluster = cluster
        self._window = {place: bounds for place, bounds in window.items() if bounds[0] < bounds[1]}
        self._items = items
        self.tally = Tally()
        self._begun: dict[str, _Begun] = {}
        self._topics = [CHUNK_TOPICS[name] for name in {place.topic for place in self._window}]
        self._decoder = Decoder({cluster.topic_name(topic): topic for topic in self._topics}, group)
        self._tracks: dict[Partition, Track] = {}
        for partition, (start, _) in self._window.items():
            self._tracks[partition] = Track(partition, Mark(start, start, 0), 0)
            for path, version in (newest or {}).items():
                self._tracks[partition].remember(path, version)
        producer = cluster.producer()
        self._outbox = Outbox(cluster, producer) if in_books else Nowhere(cluster, producer)
        # Nobody else has these partitions: there is no session that could end.
        lease = Lease(float("inf"))
        lease.renew(lease.clock())
        self._context = StageContext(
            group=group,
            stage=stage.name,
            cluster=cluster,
            outbox=self._outbox,
            lease=lease,
            tracks=self._tracks,
            middleware=[_Recorder(self.tally, self._settled)],
            pause=lambda _partitions, _seconds, _reason: None,
            caught_up=lambda _track: False,
            wire={topic.name: cluster.topic_name(topic) for topic in self._topics},
        )
        self._next_tick = 0.0
        self._stop = threading.Event()

    def run(self, stop: threading.Event, report: Callable[[int, int], None] = lambda _done, _total: None) -> Tally:
        """Handle the window; `report` is told how many of its messages were met.

        Raises PassStopped once `stop` is set, KafkaUnreachable, FatalError.
        """
        self._stop = stop
        self._stage.setup(self._context)
        try:
            self._stage.assigned(list(self._tracks))
            self._read(report)
            while any(begun.complete for begun in self._begun.values()):
                self._turn()
                self._pause(TURN_SECONDS)
            self.tally.incomplete = self._begun.keys() - self.tally.outcomes.keys()
            self._stage.revoked(list(self._tracks), lost=False)
            while not self._outbox.flush(LOG_SECONDS):
                self._pause(TURN_SECONDS)
        finally:
            self._stage.close()
        return self.tally

    def _read(self, report: Callable[[int, int], None]) -> None:
        bounds = chunk_bounds(self._cluster, self._topics)
        total = sum(max(0, end - max(start, bounds[place][0])) for place, (start, end) in self._window.items())
        done = 0
        for topic in self._topics:
            mine = {place.number: span for place, span in self._window.items() if place.topic == topic.name}
            starts = {number: start for number, (start, _) in mine.items()}
            ends = {number: end for number, (_, end) in mine.items()}
            for batch in read_now(self._cluster, topic, starts=starts, ends=ends):
                self._take(batch)
                self._turn()
                done += len(batch)
                report(done, total)

    def _take(self, raws: Sequence[RawMessage]) -> None:
        batch: list[Message] = []
        for raw in raws:
            if not self._is_meant(raw):
                continue
            partition = self._decoder.partition(raw)
            try:
                message = self._decoder.decode(raw)
            except PermanentError as error:
                self._deliver(batch)
                batch = []
                self._context.poison(partition, raw, error)
                continue
            if message is None:
                continue
            self._watch(message)
            batch.append(message)
        self._deliver(batch)

    def _is_meant(self, raw: RawMessage) -> bool:
        if self._items is None:
            return True
        try:
            return decode_key(raw.key())[-1] in self._items
        except PoisonError:
            return False

    def _watch(self, message: Message) -> None:
        frame = message.value
        if isinstance(frame, Open | Whole):
            begun = self._begun.setdefault(message.item, _Begun())
            if isinstance(frame, Whole):
                begun.ranges.add(0, len(frame.b))
                begun.size = len(frame.b)
        elif (known := self._begun.get(message.item)) is not None:
            if isinstance(frame, Data):
                known.ranges.add(frame.off, frame.off + len(frame.b))
            elif isinstance(frame, Close):
                known.size = frame.size

    def _settled(self, item: str) -> None:
        self._begun.pop(item, None)

    def _deliver(self, batch: Sequence[Message]) -> None:
        attempt = 0
        while batch:
            try:
                self._stage.handle(batch)
            except TransientError as error:
                attempt += 1
                self._turn()
                self._pause(delay(error, attempt))
                continue
            except PermanentError as error:
                self._one_by_one(batch, error)
            return

    def _one_by_one(self, batch: Sequence[Message], error: HeadraceError) -> None:
        if len(batch) == 1:
            self._context.dead_letter(batch[0], error)
            self._stage.put_aside(batch[0])
            return
        for message in batch:
            self._deliver([message])

    def _turn(self) -> None:
        """What the loop does between two batches."""
        try:
            self._stage.flush()
            if time.monotonic() >= self._next_tick:
                self._next_tick = time.monotonic() + TICK_SECONDS
                self._stage.tick(time.time())
        except TransientError as error:
            self._pause(delay(error, 1))
        self._outbox.poll()

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise PassStopped
