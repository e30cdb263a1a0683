"""The books of one job: what its sources announced and what each group made of it, as sets that add up.

Receipts may come twice and in any order: a file has one place per group, and only a better or later receipt changes
it. How many files stand where is counted as they move, so the books of a million files cost no more than those of ten,
and a job that is done can let its files go and keep the counts. Source: design section 1, rule 3; section 4, Jobs.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from headrace.deadletters.decisions import decision_of
from headrace.events import Books, FileEvent, FileState, Outcome, UploadAck
from headrace.jobs.lines import LineBooks
from headrace.proof.evidence import DEAD_MESSAGE
from headrace.receipts import worst

Standing = Outcome | Literal["dead-message", "discarded"]
"""What a group said of a file. A dead message alone kills the file that it belongs to, unless it is sent again; a dead
letter that an operator discarded is dealt with."""

OUTCOMES: tuple[Outcome, ...] = ("delivered", "unchanged", "dead_lettered", "held", "failed")

MOST_ATTEMPTS = 1000

_GOOD: frozenset[Standing | None] = frozenset({"delivered", "unchanged"})
# A delivered receipt of a file wins over every other, whenever it came (design section 1, rule 4).
_RANK: Mapping[Outcome, int] = {"delivered": 2, "unchanged": 1, "dead_lettered": 0, "held": 0, "failed": 0}

Weight = tuple[int, int, str]


class Cell(NamedTuple):
    """Where a version of a file stands: its source's last word, None before it spoke, and each group's, by number."""

    word: FileState | None
    said: tuple[Standing | None, ...]


class FileBooks:
    """The versions of files of one job. About 130 bytes a file, however many groups."""

    def __init__(self) -> None:
        self.groups: list[str] = []
        self.lines = LineBooks()
        self._numbers: dict[str, int] = {}
        self._files: dict[bytes, Cell] = {}
        self._counts: Counter[Cell] = Counter()
        self._cells: dict[Cell, Cell] = {}
        self._weights: dict[tuple[bytes, int], Weight] = {}
        self._later: defaultdict[bytes, set[bytes]] = defaultdict(set)
        self._dead: defaultdict[tuple[bytes, int], set[str]] = defaultdict(set)
        self._discarded: dict[tuple[int, str], int] = {}

    def take_event(self, event: FileEvent) -> None:
        """Take a source's word; the last one on a version counts, but "sending" never takes back an end."""
        self.lines.take_event(event)
        known = self._files.get(event.file, _NOTHING)
        if event.state == "sending" and known.word is not None:
            return
        for attempt in range(max(0, event.attempt - MOST_ATTEMPTS), event.attempt):
            earlier = event.id_as(attempt)
            self._later[earlier].add(event.file)
        self._move(event.file, known, known._replace(word=event.state))

    def take_receipt(self, ack: UploadAck) -> None:
        """Take a group's word, or what was decided on a dead letter of it.

        A receipt for some lines of a file belongs to the books of its records; one whose item is the file tells of all.
        """
        decision = decision_of(ack) if ack.file is None else None
        if decision is not None and decision.verdict == "discarded":
            self._discard(self._number(decision.group), decision.item, decision.offset)
        if ack.file is None or not ack.covers:
            return
        self.lines.take_receipt(ack)
        if ack.item != ack.file.hex() and any(covers.lines is not None for covers in ack.covers):
            return
        number = self._number(ack.group)
        before = _said(self._files.get(ack.file, _NOTHING), number)
        if ack.item.startswith(DEAD_MESSAGE):
            self._dead[ack.file, number].add(ack.item)
            self._say(ack.file, number, before)
            return
        said = worst(ack.covers).outcome
        if (before == "delivered" or before == "unchanged") and _RANK[before] > _RANK[said]:
            return
        if said in _GOOD:
            self._weights.pop((ack.file, number), None)
        else:
            # Among bad ones the later counts: what is needed to tell is kept for these few only.
            weight = (ack.last, ack.at, said)
            if self._weights.get((ack.file, number), weight) > weight:
                return
            self._weights[ack.file, number] = weight
        self._say(ack.file, number, said)

    def withdraw(self, group: str, file: bytes) -> None:
        """A group's word was taken back."""
        number = self._numbers.get(group)
        if number is not None and file in self._files:
            self._weights.pop((file, number), None)
            self._say(file, number, None)

    def words(self) -> Counter[FileState | None]:
        """How many versions there are by their source's last word."""
        found: Counter[FileState | None] = Counter()
        for cell, count in self._counts.items():
            found[cell.word] += count
        return found

    def book(self, group: str, expected: int | None) -> Books:
        """One group's sums; a version that failed, and of which a later attempt is good, is `unchanged`."""
        number = self._numbers.get(group, -1)
        found: Counter[Outcome] = Counter()
        for cell, count in self._counts.items():
            outcome = outcome_of(cell, number)
            if outcome is not None:
                found[outcome] += count
        for outcome, count in self._settled_by_later(number).items():
            found[outcome] -= count
            found["unchanged"] += count
        return Books(group=group, expected=expected, **{outcome: found[outcome] for outcome in OUTCOMES})

    def unsettled(self, group: str) -> int:
        """Versions whose source has finished with them, and which this group has said nothing of."""
        number = self._numbers.get(group, -1)
        return sum(
            count
            for cell, count in self._counts.items()
            if cell.word not in (None, "sending") and outcome_of(cell, number) is None
        )

    def begun(self, groups: Sequence[str]) -> int:
        """Versions whose source has not finished with them, but for those that every group has given up."""
        numbers = [self._numbers.get(group, -1) for group in groups]
        return sum(
            count
            for cell, count in self._counts.items()
            if cell.word == "sending"
            and not (numbers and all(outcome_of(cell, number) is not None for number in numbers))
        )

    def early(self, group: str, *words: FileState | None) -> int:
        """Versions that this group has accounted for while their source's last word is one of these."""
        number = self._numbers.get(group, -1)
        return sum(
            count for cell, count in self._counts.items() if cell.word in words and outcome_of(cell, number) is not None
        )

    def files_without(self, group: str) -> Iterator[bytes]:
        """The ids of those versions."""
        number = self._numbers.get(group, -1)
        for file, cell in self._files.items():
            if cell.word not in (None, "sending") and outcome_of(cell, number) is None:
                yield file

    def files_with(self, group: str, outcomes: frozenset[Outcome]) -> Iterator[tuple[bytes, Outcome]]:
        """The ids of versions that a group said this of, those left out that a later attempt made good."""
        number = self._numbers.get(group, -1)
        for file, cell in self._files.items():
            outcome = outcome_of(cell, number)
            if outcome is not None and outcome in outcomes and not self._is_settled(file, number):
                yield file, outcome

    def word(self, file: bytes) -> FileState | None:
        """The source's last word on one version."""
        return self._files.get(file, _NOTHING).word

    def __contains__(self, file: bytes) -> bool:
        return file in self._files

    def __len__(self) -> int:
        return len(self._files)

    def _number(self, group: str) -> int:
        number = self._numbers.get(group)
        if number is None:
            number = self._numbers[sys.intern(group)] = len(self.groups)
            self.groups.append(group)
        return number

    def _discard(self, number: int, item: str, offset: int) -> None:
        self._discarded[number, item] = max(offset, self._discarded.get((number, item), offset))
        if item.startswith(DEAD_MESSAGE):
            files = [file for (file, of), items in self._dead.items() if of == number and item in items]
        else:
            files = [file for file, of in self._weights if of == number and file.hex() == item]
        for file in files:
            self._say(file, number, _said(self._files[file], number))

    def _say(self, file: bytes, number: int, said: Standing | None) -> None:
        if said in (None, "dead-message"):
            alive = any((number, item) not in self._discarded for item in self._dead.get((file, number), ()))
            said = "dead-message" if alive else None
        elif said in ("dead_lettered", "discarded"):
            last = self._weights[file, number][0]
            discarded = self._discarded.get((number, file.hex()), last - 1) >= last
            said = "discarded" if discarded else "dead_lettered"
        known = self._files.get(file, _NOTHING)
        padded = known.said + (None,) * (number + 1 - len(known.said))
        self._move(file, known, known._replace(said=(*padded[:number], said, *padded[number + 1 :])))

    def _move(self, file: bytes, before: Cell, after: Cell) -> None:
        after = self._cells.setdefault(after, after)
        if before is not _NOTHING:
            self._counts[before] -= 1
            if not self._counts[before]:
                del self._counts[before]
        self._counts[after] += 1
        self._files[file] = after

    def _settled_by_later(self, number: int) -> Counter[Outcome]:
        found: Counter[Outcome] = Counter()
        for earlier in self._later:
            outcome = outcome_of(self._files.get(earlier, _NOTHING), number)
            if outcome is not None and outcome not in _GOOD and self._is_settled(earlier, number):
                found[outcome] += 1
        return found

    def _is_settled(self, file: bytes, number: int) -> bool:
        return any(outcome_of(self._files[later], number) in _GOOD for later in self._later.get(file, ()))


_NOTHING = Cell(None, ())


def outcome_of(cell: Cell, number: int) -> Outcome | None:
    """What became of a version in the group with this number; None: nothing yet."""
    said = _said(cell, number)
    if said == "dead-message":
        return None if cell.word == "sending" else "dead_lettered"
    if said is not None:
        return "unchanged" if said == "discarded" else said
    if cell.word == "aborted":
        return "unchanged"
    return "failed" if cell.word == "expired" else None


def _said(cell: Cell, number: int) -> Standing | None:
    return cell.said[number] if 0 <= number < len(cell.said) else None
