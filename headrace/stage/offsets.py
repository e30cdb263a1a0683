"""Where a group stands in one partition: position, low-water mark, and what its receipts already cover.

Items (files, hours, batches in flight) span messages and interleave. What is committed is the *low-water mark*, the
first offset of any unfinished item, so that any standard tool sees a safe offset and a process that takes over finds
the first frame of every open item. The position reached and the place to read receipts from stand in the commit's
metadata: `pos=<offset> rcp=<offset>`.

From low on a new owner meets messages of items that are finished. Its receipts tell which: a message is *covered* if a
receipt names its item and `last` is at or after its offset. All receipts that can cover messages at or after low were
written after the item at low was opened, so the receipts' end at that moment (`rcp`) is where reading them must begin.
Source: design section 4, "Items that span messages".
"""

from __future__ import annotations

import heapq
import itertools
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from headrace import deadletter
from headrace.events import UploadAck
from headrace.stage.contract import Message, Partition, Version

# Paths whose newest delivered version is remembered, per partition; about 150 bytes each.
PATHS_REMEMBERED = 50_000

_NEWEST = re.compile(r"^(-?\d{1,19})?/(\d{1,19})/([0-9a-f]{32})$")
_METADATA = re.compile(r"^pos=(\d{1,19}) rcp=(\d{1,19})$")


class Mark(NamedTuple):
    """What is committed for a partition: `low`, the offset a consumer goes on from, and the metadata's two offsets."""

    low: int
    position: int
    receipts: int

    @property
    def metadata(self) -> str:
        """The commit's metadata."""
        return f"pos={self.position} rcp={self.receipts}"


def parse_metadata(text: str | None) -> tuple[int, int] | None:
    """Position and receipts offset from a commit's metadata; None if a tool wrote it."""
    found = _METADATA.match(text or "")
    return (int(found[1]), int(found[2])) if found else None


def newest_header(version: Version) -> bytes:
    """`version` as the header of a re-driven message that names the newest delivered version of its path.

    The receipt of that version may lie below what is read at assignment, when a message from long ago is re-driven.
    """
    ctime = "" if version.ctime_ns is None else str(version.ctime_ns)
    return f"{ctime}/{version.first}/{version.file.hex()}".encode()


def newest_named(headers: Sequence[tuple[str, bytes]]) -> Version | None:
    """The version that such a header names, None if there is none."""
    value = next((value for name, value in headers if name == deadletter.NEWEST), None)
    found = _NEWEST.match((value or b"").decode("utf-8", "replace"))
    return Version(int(found[1]) if found[1] else None, int(found[2]), bytes.fromhex(found[3])) if found else None


@dataclass(slots=True, eq=False)
class OpenItem:
    """An unfinished item: it holds the low-water mark at `first`."""

    item: str
    path: str
    first: int
    receipts: int
    headers: Sequence[tuple[str, bytes]]
    damaged: bool = False


class Track:
    """The state of one assigned partition. Not thread-safe: the loop's thread only.

    `position` is the offset of the next message to handle, `taken` of the next one to take from the client: messages
    between the two are held, since the stage could not handle them yet.
    """

    def __init__(self, partition: Partition, mark: Mark, receipts_end: int) -> None:
        self.partition = partition
        self.position = mark.low
        self.taken = mark.low
        self.committed: Mark | None = None
        # By receipts that were on the log at assignment, and by own ones, which matter for what is not handled yet.
        self._covered: dict[str, int] = {}
        self._own: dict[str, int] = {}
        # Receipts that are handed over and not on the log yet: what they cover is not done twice by this process.
        self._handed: dict[str, int] = {}
        self._newest: OrderedDict[str, Version] = OrderedDict()
        self._open: dict[str, OpenItem] = {}
        self._holding: dict[int, OpenItem] = {}
        self._serials: dict[int, int] = {}
        self._firsts: list[tuple[int, int]] = []
        self._counter = itertools.count()
        self._prune_at = 1024
        self._prune_own_at = 1024
        # Below this offset, messages may be covered by receipts that lie before the end at assignment.
        self._known_until = mark.position
        self._receipts_before = mark.receipts
        self._receipts = receipts_end

    def learn(self, ack: UploadAck, path: str) -> None:
        """Take in a receipt of this group that was on the log at assignment."""
        self._covered[ack.item] = max(ack.last, self._covered.get(ack.item, -1))
        self._remember_delivered(ack, path)
        self._known_until = max(self._known_until, ack.last + 1)

    def withdraw(self, item: str, path: str) -> None:
        """A receipt that was learned has been taken back, so that its item is handled anew: see `proof.rewind`."""
        self._covered.pop(item, None)
        self._own.pop(item, None)
        newest = self._newest.get(path)
        if newest is not None and newest.file.hex() == item:
            # Read again from another offset, the version must not lose against itself.
            del self._newest[path]

    def open(self, item: str, first: Message) -> None:
        """Hold low at `first` until the item closes; an item that is open already stays as it is."""
        if item in self._open:
            return
        if first.headers and (newest := newest_named(first.headers)) is not None:
            self.remember(first.path, newest)
        receipts = self._receipts_before if first.offset < self._known_until else self._receipts
        entry = OpenItem(item, first.path, first.offset, receipts, first.headers)
        self._open[item] = entry
        serial = next(self._counter)
        self._holding[serial] = entry
        self._serials[id(entry)] = serial
        heapq.heappush(self._firsts, (entry.first, serial))

    def opened(self, item: str) -> OpenItem | None:
        """The open item of that name."""
        return self._open.get(item)

    @property
    def opened_items(self) -> list[str]:
        """The names of all open items."""
        return list(self._open)

    def settle(self, item: str, last: int = -1) -> OpenItem | None:
        """Take an item out of the open ones; it holds low until `release`. A new one of the same name may open.

        Parameters:
            last: the offset that its receipt covers: messages up to there count as done from now on.
        """
        entry = self._open.pop(item, None)
        if entry is not None and last >= 0:
            self._handed[item] = max(last, self._handed.get(item, -1))
        return entry

    def release(self, entry: OpenItem, ack: UploadAck | None, receipt_offset: int | None) -> None:
        """The receipt is on the log (or none was needed): low may pass the item."""
        serial = self._serials.pop(id(entry), None)
        if serial is not None:
            del self._holding[serial]
        if ack is not None:
            self._own[ack.item] = max(ack.last, self._own.get(ack.item, -1))
            self._remember_delivered(ack, entry.path)
            if self._handed.get(ack.item, -1) <= ack.last:
                self._handed.pop(ack.item, None)
        if receipt_offset is not None:
            self._receipts = max(self._receipts, receipt_offset + 1)

    def covered(self, item: str, offset: int) -> bool:
        """Whether a receipt of this group covers the message at `offset` of `item`."""
        return (
            self._own.get(item, -1) >= offset
            or self._handed.get(item, -1) >= offset
            or self._covered.get(item, -1) >= offset
        )

    def newest(self, path: str) -> Version | None:
        """The newest delivered version of `path` that is remembered."""
        return self._newest.get(path)

    @property
    def open_items(self) -> int:
        """How many items hold the low-water mark."""
        return len(self._holding)

    def mark(self) -> Mark:
        """What may be committed now."""
        while self._firsts and self._firsts[0][1] not in self._holding:
            heapq.heappop(self._firsts)
        if len(self._firsts) > 2 * len(self._holding) + 1024:
            # One item that stays open keeps those that came and went after it from getting to the front.
            self._firsts = [(entry.first, serial) for serial, entry in self._holding.items()]
            heapq.heapify(self._firsts)
        if self._firsts:
            first, serial = self._firsts[0]
            mark = Mark(first, self.position, self._holding[serial].receipts)
        else:
            before = self.position < self._known_until
            mark = Mark(self.position, self.position, self._receipts_before if before else self._receipts)
        if len(self._covered) > self._prune_at:
            self._covered = {item: last for item, last in self._covered.items() if last >= mark.low}
            self._prune_at = max(1024, 2 * len(self._covered))
        if len(self._own) > self._prune_own_at:
            # Not by low, at which one sender that died can hold them all for a day.
            self._own = {item: last for item, last in self._own.items() if last >= self.position}
            self._prune_own_at = max(1024, 2 * len(self._own))
        return mark

    def _remember_delivered(self, ack: UploadAck, path: str) -> None:
        if ack.file is None or not any(part.outcome == "delivered" for part in ack.covers):
            return
        self.remember(path, Version(ack.ctime_ns, ack.first, ack.file))

    def remember(self, path: str, version: Version) -> None:
        """This version of `path` was delivered."""
        known = self._newest.get(path)
        if known is None or version.newer_than(known) or version.file == known.file:
            self._newest[path] = version
            self._newest.move_to_end(path)
            if len(self._newest) > PATHS_REMEMBERED:
                self._newest.popitem(last=False)
