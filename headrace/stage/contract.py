"""The contract between a stage and the loop that runs it.

A stage says what it reads and writes and what it does with a batch; polling, decoding, dead letters, receipts,
commits, rebalances, pauses and the zombie guard are the loop's. All methods are called from the loop's thread, each
well under a second; slow work belongs into workers of the stage's own, whose results `tick` or `flush` collect.
Source: design section 9.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol

from headrace import deadletter
from headrace.chunks.frames import Frame
from headrace.errors import FatalError, HeadraceError
from headrace.events import Covers, Event, UploadAck
from headrace.keys import Key
from headrace.topics import Topic


class Partition(NamedTuple):
    """A partition by the topic's catalogue name (without prefix) and its number."""

    topic: str
    number: int


class Version(NamedTuple):
    """Which version of a path something is. The later `ctime_ns` is newer; where one is unknown, the later `first`."""

    ctime_ns: int | None
    first: int
    file: bytes

    def newer_than(self, other: Version) -> bool:
        """Whether this version replaces `other`. Source: design section 3, chunk protocol."""
        if self.ctime_ns is not None and other.ctime_ns is not None and self.ctime_ns != other.ctime_ns:
            return self.ctime_ns > other.ctime_ns
        return self.first > other.first


class BeginAnew(FatalError):
    """What the stage works on is not what it began with: {problem}; it begins anew from its committed offset."""

    code = "begin-anew"


@dataclass(slots=True)
class Message:
    """One decoded message.

    `time` is in milliseconds since the epoch (append time at the broker), `path` the first part of the key, `item`
    what the message belongs to: the key's last part, or its own coordinates where the topic says so. `value` is a frame
    or an event; of a foreign topic it is the bytes, and the key our name for the message. `raw` and `raw_key` are the
    bytes as they came, for a dead letter. Nobody changes it; frozen it would take three times as long to make.
    """

    partition: Partition
    offset: int
    time: int
    key: Key
    path: str
    item: str
    value: Frame | Event | bytes
    raw: bytes = field(repr=False)
    raw_key: bytes | None = field(repr=False)
    headers: Sequence[tuple[str, bytes]] = field(default=(), repr=False)

    @property
    def order(self) -> int:
        """Where it stands among the versions of its path: its offset, or that of its first time if it is re-driven."""
        return deadletter.first_offset(self.headers, self.offset) if self.headers else self.offset


class Context(Protocol):
    """What the loop offers a stage. Everything emitted is acknowledged by the broker before the commit."""

    group: str

    def emit(
        self,
        topic: Topic,
        key: Key,
        value: Event | Frame | bytes | None,
        *,
        partition: int | None = None,
        delivered: Callable[[int], None] | None = None,
    ) -> None:
        """Send `value`; a receipt handed over later follows it onto the log.

        Parameters:
            value: an event or frame; bytes as they are; None removes the key from a compacted topic.
            partition: by default the one of the key's first part.
            delivered: called with the offset, in the loop's thread, once the broker has it.
        """

    def emit_all(
        self,
        topic: Topic,
        partition: int,
        messages: Sequence[tuple[bytes, bytes | None]],
        delivered: Callable[[int], None],
    ) -> None:
        """Send many values to one partition, in their order; a receipt handed over later follows them onto the log.

        Parameters:
            messages: encoded keys, and values as they are on the wire; None removes the key from a compacted topic.
            delivered: called with the last one's offset, in the loop's thread, once the broker has all of them.
        """

    def open(self, item: str, first: Message) -> None:
        """Begin an item: the committed offset stays at or before `first` until its receipt is on the log."""

    def drop(self, item: str) -> None:
        """Forget an open item whose messages turned out to need no receipt."""

    def done(self, message: Message) -> bool:
        """Whether a receipt of this group names the message's item and covers its offset."""

    def damaged(self, item: str) -> bool:
        """Whether a message of this open item went to the dead letters, so that it can never become whole."""

    def delivered(self, item: str) -> bool | None:
        """Whether a receipt on the log says that this open item was delivered before; None while that is looked for.

        Reads a lot, in the background: ask of an item that is stuck. Of one that is closed as `failed` the loop finds
        out by itself, and a delivery wins.
        """

    def orphan(self, message: Message) -> None:
        """Count a message that is skipped since its item is not open: its beginning was dealt with, or is gone."""

    def caught_up(self, partition: Partition) -> bool:
        """Whether everything in the partition was handled, as far as is known: a time without messages is silence."""

    def newest(self, partition: Partition, path: str) -> Version | None:
        """The newest version of `path` that this group has delivered, as far as its receipts since low tell."""

    def receipt(self, ack: UploadAck) -> None:
        """Close the open item `ack.item`, once everything emitted before is on the log."""

    def dead_letter(self, message: Message, error: HeadraceError, covers: Covers | None = None) -> None:
        """Put a message's bytes aside with the reason, and close its item as `dead_lettered`."""

    def pause(self, partitions: Sequence[Partition], seconds: float, reason: str) -> None:
        """Fetch nothing from `partitions` for a while; the service counts as healthy meanwhile."""

    def may_act(self) -> bool:
        """Whether this process may still touch the outside: the zombie guard. Safe to call from any thread."""


class Stage(ABC):
    """A service that reads topics. Hooks that a stage does not need do nothing."""

    name: ClassVar[str]
    reads: ClassVar[Sequence[Topic]]
    writes: ClassVar[Sequence[Topic]]

    def setup(self, context: Context) -> None:
        """Get ready, before the first assignment."""

    def assigned(self, partitions: Sequence[Partition]) -> None:
        """These partitions are ours now, from their low-water marks."""

    @abstractmethod
    def handle(self, batch: Sequence[Message]) -> None:
        """Take messages, in log order per partition. May be called again with the same ones.

        A TransientError pauses the partitions of the batch and delivers it again after `retry_after`; a PermanentError
        sends the message that caused it to the dead letters.
        """

    def put_aside(self, message: Message) -> None:
        """`handle` failed on this message for good: it is among the dead letters, and its item is closed. Forget it.

        Of an item that is open under another key or in another partition the message was a forgery: that one stays.
        """

    def flush(self) -> None:
        """Make finished items durable and hand over their receipts; may leave items open, is called again."""

    def tick(self, now: float) -> None:
        """Every second, or so: collect workers' results, look at time-outs. `now` is in seconds since the epoch."""

    def revoked(self, partitions: Sequence[Partition], lost: bool) -> None:
        """Forget the items of these partitions. If `lost`, somebody else has them already: delete nothing."""

    def close(self) -> None:
        """Stop workers and release what is held."""


class Source(Protocol):
    """A service without an input topic."""

    name: ClassVar[str]
    writes: ClassVar[Sequence[Topic]]

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then drain and return."""
