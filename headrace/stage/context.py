"""The loop's side of the contract: what a stage is given to work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import msgspec

from headrace import deadletter, receipts, topics
from headrace.chunks import frames
from headrace.chunks.frames import Frame
from headrace.codec import avro
from headrace.errors import FatalError, HeadraceError
from headrace.events import Covers, Event, UploadAck
from headrace.kafka.clients import Cluster
from headrace.kafka.raw import RawMessage
from headrace.keys import Key, decode_key, encode_key, partition_of
from headrace.stage import kill
from headrace.stage.contract import Message, Partition, Version
from headrace.stage.decoding import file_of
from headrace.stage.delivered import Deliveries
from headrace.stage.forgotten import Forgotten
from headrace.stage.middleware import Middleware
from headrace.stage.middleware.zombie import Lease
from headrace.stage.offsets import OpenItem, Track
from headrace.stage.outbox import Outbox
from headrace.topics import Topic

CARRIED_HEADERS = frozenset({"traceparent", "hr-job"})


class ReceiptWithoutItem(FatalError):
    """The stage {stage} closed the item {item}, which is not open; it must open an item before it acts on it."""

    code = "receipt-without-item"


class StageContext:
    """Implements `contract.Context` for one running stage."""

    def __init__(
        self,
        *,
        group: str,
        stage: str,
        cluster: Cluster,
        outbox: Outbox,
        lease: Lease,
        tracks: dict[Partition, Track],
        middleware: Sequence[Middleware],
        pause: Callable[[Sequence[Partition], float, str], None],
        caught_up: Callable[[Track], bool],
        wire: Mapping[str, str],
        deliveries: Deliveries | None = None,
    ) -> None:
        self.group = group
        self._stage = stage
        self._cluster = cluster
        self._outbox = outbox
        self._lease = lease
        self._tracks = tracks
        self._middleware = middleware
        self._pause = pause
        self._caught_up = caught_up
        self._wire = wire
        self._forgotten = Forgotten()
        self._deliveries = deliveries
        # Failures that may be of items which were delivered before: that is looked for first.
        self._doubtful: list[tuple[Track, OpenItem, UploadAck]] = []

    def emit(
        self,
        topic: Topic,
        key: Key,
        value: Event | Frame | bytes | None,
        *,
        partition: int | None = None,
        delivered: Callable[[int], None] | None = None,
    ) -> None:
        """Send a value; see the contract."""
        if isinstance(value, Event):
            data: bytes | None = avro.encode(value)
        else:
            data = value if value is None or isinstance(value, bytes) else frames.encode(value)
        if partition is None:
            partition = partition_of(key[0], self._cluster.partitions(topic))
        self._outbox.send(topic, encode_key(key), data, partition, delivered=delivered)

    def emit_all(
        self,
        topic: Topic,
        partition: int,
        messages: Sequence[tuple[bytes, bytes | None]],
        delivered: Callable[[int], None],
    ) -> None:
        """Send many values to one partition; see the contract."""
        self._outbox.send_all(topic, partition, messages, delivered)

    def open(self, item: str, first: Message) -> None:
        """Begin an item; see the contract."""
        self._tracks[first.partition].open(item, first)
        self._forgotten.discard((first.partition.number, item))

    def drop(self, item: str) -> None:
        """Forget an item; see the contract."""
        track = self._holder(item)
        entry = track.settle(item) if track is not None else None
        if track is not None and entry is not None:
            track.release(entry, None, None)
            self._look_no_more(track, entry)

    def done(self, message: Message) -> bool:
        """Whether a receipt covers the message; see the contract."""
        return self._tracks[message.partition].covered(message.item, message.offset)

    def damaged(self, item: str) -> bool:
        """Whether a frame of the item was put aside; see the contract."""
        track = self._holder(item)
        entry = track.opened(item) if track is not None else None
        return entry is not None and entry.damaged

    def delivered(self, item: str) -> bool | None:
        """Whether the open item was delivered before; see the contract."""
        track = self._holder(item)
        entry = track.opened(item) if track is not None else None
        if self._deliveries is None or track is None or entry is None:
            return False
        place = (track.partition.number, entry.path, item)
        return self._deliveries.found(*place) is not None if self._deliveries.look(*place) else None

    def orphan(self, message: Message) -> None:
        """Count a skipped message; see the contract."""
        for middleware in reversed(self._middleware):
            middleware.after_orphan(message.partition)

    def caught_up(self, partition: Partition) -> bool:
        """Whether there is nothing left to read; see the contract."""
        return partition in self._tracks and self._caught_up(self._tracks[partition])

    def newest(self, partition: Partition, path: str) -> Version | None:
        """The newest delivered version; see the contract."""
        track = self._tracks.get(partition)
        return track.newest(path) if track is not None else None

    def receipt(self, ack: UploadAck) -> None:
        """Close an item; see the contract. Of a revoked partition nothing is said: its new owner will."""
        if (ack.partition, ack.item) in self._forgotten:
            return
        self._close(self._holder(ack.item, ack.partition), ack)

    def _close(self, track: Track | None, ack: UploadAck) -> None:
        entry = track.settle(ack.item, ack.last) if track is not None else None
        if track is None or entry is None:
            raise ReceiptWithoutItem(stage=self._stage, item=ack.item)
        kill.point("loop.after-effect-before-receipt")
        if self._deliveries is not None and _failed(ack):
            self._doubtful.append((track, entry, ack))
            self.look_back()
        else:
            self._look_no_more(track, entry)
            self._outbox.after_all(partial(self._send_receipt, track, entry, ack))

    def dead_letter(self, message: Message, error: HeadraceError, covers: Covers | None = None) -> None:
        """Put a message aside and close its item; see the contract."""
        opened = self._tracks[message.partition].opened(message.item)
        if opened is not None and opened.path != message.path:
            # It bears the id of an item of somebody else's, which must not be closed for it.
            own = deadletter.unreadable_item(*message.partition, message.offset)
            message = replace(message, item=own)
        self.open(message.item, message)
        entry = self._tracks[message.partition].opened(message.item)
        self._send_dead_letter(
            message.partition, message.offset, message.time, message.raw_key, message.raw, message.headers, error,
            message.item, getattr(message.value, "job", None),
        )  # fmt: skip
        ack = receipts.settle(
            self.group, message, message.offset, "dead_lettered", code=error.code, file=file_of(message.key)
        )
        if entry is not None:
            ack = msgspec.structs.replace(ack, first=entry.first)
        if covers is not None:
            ack = msgspec.structs.replace(ack, covers=[covers])
        # Its own partition's item, should an item of that name be open in another topic as well.
        self._close(self._tracks[message.partition], ack)

    def poison(self, partition: Partition, raw: RawMessage, error: HeadraceError) -> None:
        """Put aside a message that could not be decoded. If its key names an open item, that item is damaged."""
        offset = raw.offset()
        item = deadletter.unreadable_item(*partition, offset)
        track = self._tracks[partition]
        try:
            key = decode_key(raw.key())
        except HeadraceError:
            key = (item,)
        file = file_of(key)
        broken = track.opened(key[-1])
        if broken is not None:
            broken.damaged = True
        first = Message(
            partition=partition, offset=offset, time=raw.timestamp()[1], key=key, path=key[0], item=item,
            value=frames.Close(v=1, abort=error.code), raw=raw.value() or b"", raw_key=raw.key(),
            headers=raw.headers() or (),
        )  # fmt: skip
        self.open(item, first)
        self._send_dead_letter(partition, offset, first.time, first.raw_key, first.raw, first.headers, error, item)
        ack = receipts.settle(self.group, first, offset, "dead_lettered", code=error.code, file=file)
        self._close(track, ack)

    def pause(self, partitions: Sequence[Partition], seconds: float, reason: str) -> None:
        """Fetch nothing for a while; see the contract."""
        self._pause(partitions, seconds, reason)

    def may_act(self) -> bool:
        """The zombie guard; see the contract."""
        return self._lease.valid()

    def forget(self, partitions: Sequence[Partition]) -> None:
        """The items of these partitions are no longer ours."""
        gone: list[tuple[int, str]] = []
        for partition in partitions:
            if partition in self._tracks:
                track = self._tracks[partition]
                gone += [(partition.number, item) for item in track.opened_items]
                for item in track.opened_items:
                    if (entry := track.opened(item)) is not None:
                        self._look_no_more(track, entry)
        self._forgotten.add(gone)
        # They hold low, so their new owner meets them again.
        self._doubtful = [each for each in self._doubtful if each[0].partition not in partitions]

    def look_back(self) -> bool:
        """Hand over receipts of failures as far as it is known what was before; whether none is left waiting.

        A delivery wins: its receipt is written again, and covers what came since.
        """
        if not self._doubtful or self._deliveries is None:
            return True
        waiting, self._doubtful = self._doubtful, []
        for track, entry, ack in waiting:
            place = (track.partition.number, entry.path, ack.item)
            if not self._deliveries.look(*place):
                self._doubtful.append((track, entry, ack))
                continue
            earlier = self._deliveries.found(*place)
            if earlier is not None:
                ack = msgspec.structs.replace(earlier, last=max(earlier.last, ack.last), at=ack.at)
            self._look_no_more(track, entry)
            self._outbox.after_all(partial(self._send_receipt, track, entry, ack))
        return not self._doubtful

    def _look_no_more(self, track: Track, entry: OpenItem) -> None:
        if self._deliveries is not None:
            self._deliveries.forget(track.partition.number, entry.path, entry.item)

    def _holder(self, item: str, number: int | None = None) -> Track | None:
        """The track in which an item is open; by number, since a forged key may name another partition's item."""
        for partition, track in self._tracks.items():
            if (number is None or partition.number == number) and track.opened(item) is not None:
                return track
        return None

    def _send_receipt(self, track: Track, entry: OpenItem, ack: UploadAck) -> None:
        carried = [(name, value) for name, value in entry.headers if name in CARRIED_HEADERS]
        if ack.job is not None and all(name != "hr-job" for name, _ in carried):
            # Records have no headers; the ledger knows receipts by theirs.
            carried.append(("hr-job", ack.job.encode()))
        self._outbox.send(
            topics.UPLOAD_ACKS,
            encode_key(receipts.receipt_key(entry.path, self.group, ack.item)),
            avro.encode(ack),
            ack.partition,
            carried,
            partial(self._receipt_delivered, track, entry, ack),
            awaited=False,
        )

    def _receipt_delivered(self, track: Track, entry: OpenItem, ack: UploadAck, offset: int) -> None:
        track.release(entry, ack, offset)
        kill.point("loop.after-receipt-before-commit")
        for middleware in reversed(self._middleware):
            middleware.after_receipt(ack)

    def _send_dead_letter(
        self,
        partition: Partition,
        offset: int,
        timestamp: int,
        key: bytes | None,
        value: bytes,
        original: Sequence[tuple[str, bytes]],
        error: HeadraceError,
        item: str,
        job: str | None = None,
    ) -> None:
        self._outbox.send(
            topics.DEAD_LETTERS,
            key,
            value,
            partition.number % self._cluster.partitions(topics.DEAD_LETTERS),
            deadletter.headers(
                topic=self._wire[partition.topic],
                partition=partition.number,
                offset=offset,
                timestamp=timestamp,
                service=self.group,
                stage=self._stage,
                error=error,
                item=item,
                original=original,
                job=job,
            ),
        )
        for middleware in reversed(self._middleware):
            middleware.after_dead_letter(partition, error)


def _failed(ack: UploadAck) -> bool:
    """Whether a receipt says of a whole item that it failed."""
    return len(ack.covers) == 1 and ack.covers[0].outcome == "failed" and ack.covers[0].lines is None
