"""The books of the records of one job: lines of files, as sets.

A fan-out's receipt names the lines of a file that became records; who reads the records says of each line what became
of it, in receipts named after the file and something more. Work that is done twice says the same twice, and the sets
stay as they are. Source: design section 1, rule 3.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from pyroaring import BitMap64

from headrace.events import Books, FileEvent, Outcome, UploadAck

GOOD: tuple[Outcome, ...] = ("delivered", "unchanged")
BAD: tuple[Outcome, ...] = ("dead_lettered", "held", "failed")


class Lines:
    """What became of the lines of one file in one group: disjoint sets by outcome and code.

    A good outcome wins over a bad one whenever it came, delivered over unchanged; of bad ones the later counts.
    """

    def __init__(self) -> None:
        self.sets: dict[tuple[Outcome, str | None], BitMap64] = {}
        self.given_up: set[str] = set()
        """Items whose lines nobody will ever account for."""
        self.where: str | None = None
        """Where they are, as the last receipt says."""

    def take(self, ack: UploadAck) -> None:
        """Take a receipt."""
        if all(covers.lines is None for covers in ack.covers):
            if any(covers.outcome == "failed" for covers in ack.covers):
                self.given_up.add(ack.item)
            return
        self.given_up.discard(ack.item)
        self.where = ack.where
        for covers in ack.covers:
            if covers.lines is not None:
                self._take(covers.outcome, covers.code, BitMap64.deserialize(covers.lines))

    def put_aside(self) -> list[tuple[int, Outcome, str | None]]:
        """The lines that did not get where they should, in order, with what became of each and why."""
        bad = (
            (line, outcome, code) for (outcome, code), lines in self.sets.items() if outcome in BAD for line in lines
        )
        return sorted(bad, key=lambda each: each[0])

    def _take(self, outcome: Outcome, code: str | None, lines: BitMap64) -> None:
        rank = _RANK[outcome]
        for (other, _), known in self.sets.items():
            if _RANK[other] > rank:
                lines = lines - known
        for known in self.sets.values():
            known.difference_update(lines)
        self.sets.setdefault((outcome, code), BitMap64()).update(lines)

    def all(self) -> BitMap64:
        """Every line that something was said of."""
        found: BitMap64 = BitMap64()
        for lines in self.sets.values():
            found |= lines
        return found

    def counts(self) -> Counter[tuple[Outcome, str | None]]:
        """How many lines there are by outcome and code."""
        return Counter({key: len(lines) for key, lines in self.sets.items() if lines})


_RANK: Mapping[Outcome, int] = {"delivered": 2, "unchanged": 1, "dead_lettered": 0, "held": 0, "failed": 0}


class LineBooks:
    """The lines of the files of one job."""

    def __init__(self) -> None:
        self.datasets: dict[bytes, str] = {}
        self.fanned: defaultdict[bytes, Lines] = defaultdict(Lines)
        """What the fan-out said of a file's lines: what it delivered are the records that there are."""
        self.said: defaultdict[tuple[str, bytes], Lines] = defaultdict(Lines)
        """What a group that reads records said, by group and file."""

    def take_event(self, event: FileEvent) -> None:
        """Take a source's word."""
        if event.dataset is not None:
            self.datasets[event.file] = event.dataset

    def take_receipt(self, ack: UploadAck) -> None:
        """Take a receipt; one that names no lines is of no interest, but for a part of a file that was given up."""
        if ack.file is None:
            return
        if ack.item == ack.file.hex():
            if any(covers.lines is not None for covers in ack.covers):
                self.fanned[ack.file].take(ack)
        elif ack.item.startswith(f"{ack.file.hex()}/") or any(covers.lines is not None for covers in ack.covers):
            self.said[ack.group, ack.file].take(ack)

    def records(self, file: bytes) -> BitMap64:
        """The lines of a file that became records."""
        fanned = self.fanned.get(file)
        found = None if fanned is None else fanned.sets.get(("delivered", None))
        return BitMap64() if found is None else found

    def files(self, dataset: str) -> list[bytes]:
        """The files of a dataset."""
        return [file for file, name in self.datasets.items() if name == dataset]

    def missing(self, dataset: str, group: str) -> int:
        """Records of a dataset that the group has not accounted for, and still may."""
        return sum(len(self._open(file, group)) for file in self.files(dataset) if not self._given_up(file, group))

    def book(self, dataset: str, group: str, *, complete: bool) -> Books:
        """A group's sums over the records of a dataset.

        Parameters:
            complete: whether every file is fanned out, so that it is known how many records there are.
        """
        found: Counter[Outcome] = Counter()
        records = 0
        for file in self.files(dataset):
            mine = self.records(file)
            records += len(mine)
            said = self.said.get((group, file))
            if said is not None:
                for (outcome, _), lines in said.sets.items():
                    found[outcome] += len(lines & mine)
            if self._given_up(file, group):
                found["failed"] += len(self._open(file, group))
        sums = {str(outcome): count for outcome, count in found.items()}
        return Books(group=group, expected=records if complete else None, **sums)

    def _open(self, file: bytes, group: str) -> BitMap64:
        said = self.said.get((group, file))
        records = self.records(file)
        return records if said is None else records - said.all()

    def _given_up(self, file: bytes, group: str) -> bool:
        said = self.said.get((group, file))
        return said is not None and bool(said.given_up)
