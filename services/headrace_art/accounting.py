"""What became of the lines of one file in one partition of its dataset, and the receipts that say so.

A receipt holds its lines as bitmaps. Those of a very large file are told in pieces, so that each fits into a message.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from pyroaring import BitMap64

from headrace.codec.records import Record
from headrace.events import Covers, EndMarker, Outcome, UploadAck
from headrace.stage.contract import Context, Message

LINES_OF_A_RECEIPT = 1 << 21
"""Lines that one receipt is about: four outcomes of them, each scattered as badly as can be, are 1 MiB."""

UNREADABLE = "unreadable"
"""Code of lines whose records could not be decoded; their bytes are among the dead letters."""

BATCH = "batch/"
"""How the names of receipts of batches begin."""


@dataclass(slots=True, eq=False)
class FilePart:
    """The lines of one file that are in one partition, until the end marker and the last outcome are there.

    `pending` counts lines that are being worked on, `batches` batches that ART has processed, each told by one part of
    its students. `heard` is when the last message came, in monotonic seconds. `name` is another one for the item, of a
    single line that came back alone; `cancelled` parts are somebody else's by now. `earlier` is what
    `headrace_art.earlier` is asked about it; `before` says that it had a receipt before.
    """

    file: bytes
    job: str | None
    first: Message
    last: int
    heard: float = field(default_factory=time.monotonic)
    seen: BitMap64 = field(default_factory=BitMap64)
    pending: int = 0
    batches: int = 0
    name: str | None = None
    cancelled: bool = False
    earlier: Future[list[Covers]] | None = None
    before: bool = False
    _outcomes: dict[tuple[Outcome, str | None], BitMap64] = field(default_factory=dict)
    _expected: BitMap64 = field(default_factory=BitMap64)
    _parts: set[int] = field(default_factory=set)
    _of: int | None = None

    @property
    def item(self) -> str:
        """What its receipt is called."""
        return self.name or item_of(self.file, self.first.partition.number)

    @property
    def ended(self) -> bool:
        """Whether the end markers are here."""
        return self._of is not None and len(self._parts) >= self._of

    @property
    def unread(self) -> BitMap64:
        """Lines that the end markers name and that did not come."""
        return self._expected - self.seen

    def touch(self, message: Message) -> None:
        """A message of it came."""
        self.last = max(self.last, message.offset)
        self.heard = time.monotonic()

    def mark(self, marker: EndMarker) -> None:
        """Take an end marker."""
        self._parts.add(marker.part)
        self._of = marker.parts
        self._expected |= BitMap64.deserialize(marker.lines)

    def alone(self, line: int) -> None:
        """It is this one line, and no end marker comes."""
        self._of = 0
        self._expected.add(line)

    def take(self, line: int) -> bool:
        """Whether a line is new; from now on it is not."""
        if line in self.seen:
            return False
        self.seen.add(line)
        return True

    def take_all(self, lines: Sequence[int]) -> bool:
        """Whether all these lines are new, and no two are the same: then from now on they are not."""
        taken = BitMap64(lines)
        if len(taken) < len(lines) or not self.seen.isdisjoint(taken):
            return False
        self.seen |= taken
        return True

    def give_back(self, lines: Iterable[int]) -> None:
        """These lines were taken and are not worked on: they are new again."""
        self.seen -= BitMap64(lines)

    def settle(self, line: int, outcome: Outcome, code: str | None = None) -> None:
        """What became of a line."""
        self.bitmap(outcome, code).add(line)

    def settle_all(self, lines: BitMap64, outcome: Outcome, code: str | None = None) -> None:
        """What became of these lines."""
        self.bitmap(outcome, code).update(lines)

    def settled_as(self, line: int, outcome: Outcome) -> bool:
        """Whether this is what became of a line."""
        return any(line in lines for (known, _), lines in self._outcomes.items() if known == outcome)

    def unsettle(self, line: int) -> None:
        """Forget what became of a line."""
        for lines in self._outcomes.values():
            lines.discard(line)

    def bitmap(self, outcome: Outcome, code: str | None = None) -> BitMap64:
        """The lines with this outcome, to add to."""
        found = self._outcomes.get((outcome, code))
        if found is None:
            found = self._outcomes[outcome, code] = BitMap64()
        return found

    def merge(self, covers: Sequence[Covers]) -> None:
        """Take over what an earlier receipt said of lines that have not come again: a later one stands in its place."""
        for each in covers:
            if each.lines is not None:
                lines = BitMap64.deserialize(each.lines) - self.seen
                self.bitmap(each.outcome, each.code).update(lines)
                self.before = True
        for each in covers:
            if each.lines is not None:
                self.seen |= BitMap64.deserialize(each.lines)

    def covers(self) -> list[Covers]:
        """What a receipt of the whole part would say."""
        unreadable = self.unread
        if unreadable:
            self.bitmap("dead_lettered", UNREADABLE).update(unreadable)
            self.seen |= unreadable
        found = [(key, lines) for key, lines in self._outcomes.items() if lines]
        return [_covers(outcome, code, lines) for (outcome, code), lines in sorted(found, key=_key)]

    def hand_over(self, context: Context, failed: str | None = None) -> None:
        """Close the item with its receipts; the one that names the part comes last.

        Parameters:
            failed: code, if the part was given up.
        """
        covers = self.covers()
        if failed is not None:
            covers = [Covers(outcome="failed", code=failed)]
        pieces = list(_pieces(covers))
        for number in range(len(pieces) - 1, -1, -1):
            item = self.item if not number else f"{self.item}/{number}"
            if number:
                context.open(item, replace(self.first, item=item))
            context.receipt(self._receipt(context, item, pieces[number], self.last))

    def hand_over_batch(
        self, context: Context, name: str, where: str, lines: Mapping[tuple[Outcome, str | None], BitMap64], last: int
    ) -> None:
        """Say of some lines, before the part is done, that they went in one batch, and where that is told of.

        The receipt is called `batch/<name>/<item>`, so that nobody takes it for a receipt of the part.

        Parameters:
            where: URL of the batch's status.
            lines: what became of those of its lines that are of this part.
            last: offset of the last of them.
        """
        item = f"{BATCH}{name}/{self.item}"
        context.open(item, replace(self.first, item=item))
        covers = [_covers(outcome, code, mine) for (outcome, code), mine in sorted(lines.items(), key=_key)]
        context.receipt(self._receipt(context, item, covers, last, where))

    def _receipt(
        self, context: Context, item: str, covers: list[Covers], last: int, where: str | None = None
    ) -> UploadAck:
        return UploadAck(
            group=context.group,
            item=item,
            job=self.job,
            file=self.file,
            partition=self.first.partition.number,
            first=self.first.offset,
            last=last,
            covers=covers,
            where=where,
            at=time.time_ns() // 1000,
        )


def item_of(file: bytes, partition: int) -> str:
    """What the receipt of one file's lines in one partition is called."""
    return f"{file.hex()}/{partition}"


def about(message: Message, file: bytes) -> Message:
    """The message under its file's name, since the record's own key holds a value of the record."""
    return replace(message, key=(file.hex(),), path=file.hex())


def open_part(context: Context, message: Message) -> FilePart:
    """Begin the part of the file that a record or an end marker belongs to."""
    value = message.value
    if not isinstance(value, Record | EndMarker):
        raise TypeError("neither a record nor an end marker")
    item = item_of(value.file, message.partition.number)
    first = replace(about(message, value.file), item=item)
    context.open(item, first)
    return FilePart(value.file, value.job, first, message.offset)


def covered(context: Context, messages: Sequence[Message], file: bytes) -> int:
    """How many of the messages, which are of one file and partition, its receipt covers: the first so many."""
    item = item_of(file, messages[0].partition.number)
    if context.done(replace(messages[-1], item=item)):
        return len(messages)
    if not context.done(replace(messages[0], item=item)):
        return 0
    return sum(context.done(replace(message, item=item)) for message in messages)


def _covers(outcome: Outcome, code: str | None, lines: BitMap64) -> Covers:
    lines.run_optimize()
    return Covers(outcome=outcome, lines=bytes(lines.serialize()), count=len(lines), code=code)


def _key(entry: tuple[tuple[Outcome, str | None], BitMap64]) -> tuple[str, str]:
    (outcome, code), _ = entry
    return outcome, code or ""


def _pieces(covers: Iterable[Covers]) -> Iterator[list[Covers]]:
    """The same in pieces of so many lines; one, even if it says nothing."""
    bitmaps = [(each, BitMap64.deserialize(each.lines)) for each in covers if each.lines is not None]
    most = max((lines.max() for _, lines in bitmaps if lines), default=0)
    if most < LINES_OF_A_RECEIPT:
        yield list(covers)
        return
    left: BitMap64 = BitMap64()
    for _, lines in bitmaps:
        left |= lines
    while left:
        start = left.min() // LINES_OF_A_RECEIPT * LINES_OF_A_RECEIPT
        window: BitMap64 = BitMap64()
        window.add_range(start, start + LINES_OF_A_RECEIPT)
        left -= window
        found = [(each, lines & window) for each, lines in bitmaps]
        yield [_covers(each.outcome, each.code, lines) for each, lines in found if lines]
