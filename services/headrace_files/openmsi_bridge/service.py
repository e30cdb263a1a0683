"""The bridge's wiring: chunk messages in, frames, announcements and receipts out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from headrace import deadletter, receipts, topics
from headrace.chunks.frames import Open
from headrace.errors import PermanentError, TransientError
from headrace.events import FileEvent
from headrace.kafka.clients import Cluster
from headrace.keys import partition_of
from headrace.observe.metrics import MetricEntry, Metrics
from headrace.stage import kill
from headrace.stage.contract import Context, Message, Partition, Stage
from headrace.topics import Topic
from headrace_files.openmsi.layout import Chunk, decode
from headrace_files.openmsi.topics import foreign, see_that_it_exists
from headrace_files.openmsi_bridge.bridging import ALGORITHM, Identity, Marks, Opened, check_size, frames_of, mtime_of
from headrace_files.openmsi_bridge.settings import OpenmsiBridgeSettings

if TYPE_CHECKING:
    from headrace.families import Host

METRICS = (
    MetricEntry("bridge_chunks_total", "counter", "Chunks that were brought over."),
    MetricEntry("bridge_bytes_total", "counter", "Bytes of those chunks."),
    MetricEntry("bridge_files_total", "counter", "Files whose last chunk was brought over."),
)
"""What only the bridge has."""

MOST_BYTES_UNDER_WAY = 32 * 1024 * 1024


class KafkaBehind(TransientError):
    """Kafka is behind: {size} bytes of frames are under way; trying again in {retry_after} s."""

    code = "kafka-behind"
    default_retry_after = 0.02
    steady = True


@dataclass(eq=False)
class _UnderWay:
    """A chunk whose frames are sent; `missing` of them are not on the log yet, `last` is the greatest offset."""

    message: Message
    chunk: Chunk
    identity: Identity
    missing: int
    first: int | None = None
    last: int = -1
    again: int = -1


class OpenmsiBridge(Stage):
    """Re-keys the chunks of OpenMSIStream's files, so that each file's chunks are together on the log."""

    name: ClassVar[str] = "openmsi_bridge"
    writes: ClassVar[Sequence[Topic]] = (topics.CHUNKS, topics.FILES, topics.UPLOAD_ACKS, topics.DEAD_LETTERS)

    def __init__(self, settings: OpenmsiBridgeSettings, cluster: Cluster, metrics: Metrics | None = None) -> None:
        self.topic = foreign(settings.topic)
        # Which topic that is, only the settings know.
        self.reads = (self.topic,)  # type: ignore[misc]
        self._cluster = cluster
        self._metrics = metrics
        self._marks = Marks(settings.source, settings.dataset)
        self._opened: dict[Partition, Opened] = {}
        self._under_way: dict[tuple[Partition, str], _UnderWay] = {}
        self._bytes = 0

    def setup(self, context: Context) -> None:
        """Look whether the topic is there. Raises NoForeignTopic, KafkaUnreachable."""
        self._context = context
        see_that_it_exists(self._cluster, self.topic)

    def handle(self, batch: Sequence[Message]) -> None:
        """Send the frames that each chunk becomes."""
        if self._bytes > MOST_BYTES_UNDER_WAY:
            raise KafkaBehind(size=self._bytes)
        for message in batch:
            try:
                self._bring_over(message)
            except PermanentError as error:
                # Not as an item of a file: whose chunk it was to be, nobody can tell.
                item = deadletter.unreadable_item(*message.partition, message.offset)
                self._context.dead_letter(replace(message, item=item), error)

    def flush(self) -> None:
        """Announce files whose last chunk is on the log, and hand over receipts."""
        for place, under_way in list(self._under_way.items()):
            if under_way.missing == 0:
                del self._under_way[place]
                self._bytes -= len(under_way.chunk.data)
                self._settle(under_way)

    def revoked(self, partitions: Sequence[Partition], lost: bool) -> None:  # noqa: ARG002 - nothing is deleted
        """Forget what is under way: the next owner sends it again, which does no harm."""
        for place, under_way in list(self._under_way.items()):
            if place[0] in partitions:
                del self._under_way[place]
                self._bytes -= len(under_way.chunk.data)
        for partition in partitions:
            self._opened.pop(partition, None)

    def _bring_over(self, message: Message) -> None:
        chunk = decode(message.raw)
        check_size(chunk)
        identity = Identity.of(self._marks.source, chunk)
        # From here on it has our name: sent again, it has the same one, and its receipt the same key.
        message = replace(message, key=identity.key, path=identity.key[0], item=identity.item(chunk.index))
        if self._context.done(message):
            return
        place = (message.partition, message.item)
        known = self._under_way.get(place)
        if known is not None:
            # Twice on the log, close together, as a producer without idempotence leaves them.
            known.again = max(known.again, message.offset)
            return
        opened = self._opened.setdefault(message.partition, Opened())
        frames = frames_of(chunk, self._marks, message.time, opened=opened.meet(identity.file, message.time))
        under_way = _UnderWay(message, chunk, identity, missing=len(frames))
        self._context.open(message.item, message)
        self._under_way[place] = under_way
        self._bytes += len(chunk.data)
        for frame in frames:
            if isinstance(frame, Open):
                delivered = partial(self._open_delivered, under_way, opened)
            else:
                delivered = partial(self._delivered, under_way)
            self._context.emit(topics.CHUNKS, identity.key, frame, delivered=delivered)

    def _open_delivered(self, under_way: _UnderWay, opened: Opened, offset: int) -> None:
        opened.known(under_way.identity.file, offset)
        self._delivered(under_way, offset)

    def _delivered(self, under_way: _UnderWay, offset: int) -> None:
        under_way.missing -= 1
        under_way.first = offset if under_way.first is None else min(under_way.first, offset)
        under_way.last = max(under_way.last, offset)

    def _settle(self, under_way: _UnderWay) -> None:
        """All frames of a chunk are on the log."""
        message, chunk = under_way.message, under_way.chunk
        kill.point("openmsi_bridge.after-frames-before-announce")
        if chunk.last:
            self._announce(under_way)
        group, last = self._context.group, max(message.offset, under_way.again)
        self._context.receipt(receipts.settle(group, message, last, "delivered", size=len(chunk.data)))
        if self._metrics is not None:
            self._metrics.add("bridge_chunks_total")
            self._metrics.add("bridge_bytes_total", len(chunk.data))
            self._metrics.add("bridge_files_total", int(chunk.last))

    def _announce(self, under_way: _UnderWay) -> None:
        """Tell that a file is on the log, as sources do. Only who has its last chunk does so: one writer a key."""
        chunk, identity = under_way.chunk, under_way.identity
        opened = self._opened.get(under_way.message.partition)
        first = opened.offset(identity.file) if opened is not None else None
        event = FileEvent(
            path_id=identity.path_id, file=identity.file, source=self._marks.source, path=chunk.path,
            state="announced", attempt=0, mtime_ns=mtime_of(chunk, under_way.message.time), size=chunk.size,
            acked=chunk.size, alg=ALGORITHM, hash=chunk.file_hash,
            partition=partition_of(identity.key[0], self._cluster.partitions(topics.CHUNKS)),
            first=under_way.first if first is None else first, last=under_way.last, dataset=self._marks.dataset,
            at=time.time_ns() // 1000,
        )  # fmt: skip
        self._context.emit(topics.FILES, identity.key, event)


def service(settings: OpenmsiBridgeSettings, host: Host) -> OpenmsiBridge:
    """The bridge as its settings say."""
    return OpenmsiBridge(settings, host.cluster, host.metrics)
