"""What is to be done with each row: nothing, send it, hold it, put it aside; and never two of one student at once."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from headrace.codec.records import Record
from headrace.datasets.catalogue import Dataset
from headrace.datasets.encoding import KEY_SEPARATOR
from headrace.errors import PermanentError
from headrace.events import Outcome
from headrace.keys import encode_key
from headrace.stage.contract import Message
from headrace.state.keyed import KeyedState
from headrace_art.accounting import FilePart
from headrace_art.client import ArtSettings
from headrace_art.mapping import StudentMapper
from headrace_art.students.changes import MARK_BYTES, Known, Verdict, confirmed, first_known, unchanged, verdict
from headrace_art.students.reading import Reader
from headrace_art.students.settings import StudentsSettings

UNKNOWN_SCHOOL = "unknown-school"
"""Code of held lines: ART has not confirmed the student's school."""
_SEPARATOR = KEY_SEPARATOR.encode()
SUPERSEDED = "superseded"
"""Code of unchanged lines: a later row of the same student counts."""


class UnknownSchool(PermanentError):
    """The student's school is none that ART has confirmed. Add it to the schools file, then send the row again."""

    code = UNKNOWN_SCHOOL


@dataclass(slots=True, eq=False)
class Pending:
    """A row that is to be sent; with a `problem`, one that is to be put aside."""

    part: FilePart
    message: Message
    line: int
    key: bytes
    digest: bytes = b""
    known: Known | None = None
    replaced: tuple[bytes, ...] = ()
    student: bytes = b""
    problem: PermanentError | None = None

    @property
    def ssid(self) -> str:
        """ART's id of the student."""
        return str(orjson.loads(self.student)["ssid"])

    @property
    def partition(self) -> int:
        """Whose partition it is of."""
        return self.message.partition.number

    @property
    def cancelled(self) -> bool:
        """Whether it is somebody else's by now: it must not be sent any more."""
        return self.part.cancelled


_SETTLED: Mapping[Verdict, tuple[Outcome, str | None]] = {
    Verdict.UNCHANGED: ("unchanged", None),
    Verdict.DELIVERED: ("delivered", None),
    Verdict.SUPERSEDED: ("unchanged", SUPERSEDED),
}


class _Row(NamedTuple):
    part: FilePart
    message: Message
    record: Record
    forced: bool


class Decider:
    """Decides on rows, by what is remembered of their students. The loop's thread only.

    Parameters:
        schools: ART's ids of schools by `school_key`; it may change.
    """

    def __init__(
        self,
        settings: StudentsSettings,
        art: ArtSettings,
        dataset: Dataset,
        schools: Mapping[str, str],
        state: KeyedState,
    ) -> None:
        self._policy = settings.unknown_schools
        self._dataset, self._state = dataset, state
        self._mapper = StudentMapper(art.mapping, schools)
        self._reader = Reader(dataset, self._mapper, schools, self._policy)
        # By partition and key: the rows that came while one of the same student is under way.
        self._busy: defaultdict[int, dict[bytes, deque[_Row] | None]] = defaultdict(dict)
        self._suspended: dict[FilePart, dict[bytes, list[tuple[_Row, bytes]]]] = {}
        self.unknown_grades = 0
        self.waiting = 0
        """Rows that came while one of the same student is under way."""

    def decide(self, part: FilePart, rows: Sequence[tuple[Message, Record]], *, forced: bool = False) -> list[Pending]:
        """Settle rows that need nothing of ART; those that do, and those that are to be put aside.

        Parameters:
            forced: send them even if nothing has changed.
        """
        number = part.first.partition.number
        busy, reader = self._busy[number], self._reader
        keys = [_key(message) for message, _ in rows]
        found: list[Pending] = []
        for (message, record), key, raw in zip(rows, keys, self._state.get(number, keys), strict=True):
            try:
                if raw is None and key not in busy and not self._suspended:
                    # On a first night this is nearly every row, so no more is done than must be.
                    school = reader.school(record)
                    student = reader.student(record, school) if school is not None else None
                    if student is not None:
                        busy[key] = None
                        digest = reader.digest(record, school)
                        found.append(Pending(part, message, record.line, key, digest, None, (), student))
                        continue
                pending = self._one(_Row(part, message, record, forced), key, raw)
            except PermanentError as error:
                pending = Pending(part, message, record.line, key, problem=error)
            except Exception:
                # A bug: all of these rows are met again, each by itself.
                for begun in found:
                    if begun.problem is None:
                        busy.pop(begun.key, None)
                raise
            if pending is not None:
                found.append(pending)
        return found

    def confirm(self, saved: Iterable[Pending]) -> None:
        """Remember that ART has saved these rows."""
        changes: defaultdict[int, dict[bytes, bytes | None]] = defaultdict(dict)
        for row in saved:
            mark, message = row.part.file[:MARK_BYTES], row.message
            if row.known is None and not row.replaced:
                raw = first_known(row.digest, mark, message.order, row.line)
            else:
                raw = confirmed(row.known, row.digest, mark, message.order, row.line, row.replaced).raw
            changes[message.partition.number][row.key] = raw
        for number, each in changes.items():
            self._state.put(number, each)

    def released(self, settled: Iterable[Pending]) -> list[Pending]:
        """These students are settled: what is to be done with the rows that waited for them."""
        found: list[Pending] = []
        for pending in settled:
            busy, key = self._busy[pending.partition], pending.key
            waiting = busy.pop(key, None)
            # Once one of them is to be sent, the others wait for that one.
            while waiting and key not in busy:
                row = waiting.popleft()
                self.waiting -= 1
                row.part.pending -= 1
                if not row.part.cancelled:
                    found += self._again([row])
            if waiting:
                busy[key] = waiting
        return found

    def late(self, part: FilePart) -> list[Pending]:
        """The part is at its end: rows that waited for another to replace them count after all, the last of each."""
        last = []
        for rows in self._suspended.pop(part, {}).values():
            for row, _ in rows[:-1]:
                part.settle(row.record.line, "unchanged", SUPERSEDED)
            last.append(rows[-1][0]._replace(forced=True))
        return self._again(last)

    def forget(self, partitions: Iterable[int]) -> int:
        """Give up the rows of these partitions; how many were to be sent."""
        numbers = frozenset(partitions)
        for part in [part for part in self._suspended if part.first.partition.number in numbers]:
            del self._suspended[part]
        gone = [self._busy.pop(number, {}) for number in numbers]
        self.waiting -= sum(len(rows) for busy in gone for rows in busy.values() if rows)
        return sum(map(len, gone))

    def _again(self, rows: Iterable[_Row]) -> list[Pending]:
        """Rows that had to wait, in their order."""
        return [
            pending
            for part, message, record, forced in rows
            for pending in self.decide(part, [(message, record)], forced=forced)
        ]

    def _one(self, row: _Row, key: bytes, raw: bytes | None) -> Pending | None:
        part, message, record, forced = row
        busy = self._busy[message.partition.number]
        if key in busy:
            waiting = busy[key] = busy[key] or deque()
            waiting.append(row)
            self.waiting += 1
            part.pending += 1
            return None
        school = self._reader.school(record)
        digest = self._reader.digest(record, school)
        mark = record.file[:MARK_BYTES]
        if not forced and unchanged(raw, digest, mark):
            if self._suspended:
                self._replaced(part, key)
            part.settle(record.line, "unchanged")
            return None
        known = Known.of(raw)
        if part.name is not None and known is not None and message.order < known.order and digest != known.hash:
            # It was sent back from long ago, and a later dump has been there since.
            part.settle(record.line, "unchanged", SUPERSEDED)
            return None
        found = verdict(known, digest, mark, record.line)
        if forced and found not in (Verdict.DELIVERED, Verdict.SUPERSEDED):
            found = Verdict.SEND
        if found is Verdict.WAIT:
            self._suspended.setdefault(part, {}).setdefault(key, []).append((row, digest))
            return None
        replaced = self._replaced(part, key) if self._suspended else ()
        if found is not Verdict.SEND:
            part.settle(record.line, *_SETTLED[found])
            return None
        return self._made(row, key, digest, known, replaced, school)

    def _replaced(self, part: FilePart, key: bytes) -> tuple[bytes, ...]:
        """The rows that waited for this one: it replaces them."""
        suspended = self._suspended.get(part)
        rows = suspended.pop(key, ()) if suspended else ()
        for row, _ in rows:
            part.settle(row.record.line, "unchanged", SUPERSEDED)
        return tuple(digest for _, digest in rows)

    def _made(
        self,
        row: _Row,
        key: bytes,
        digest: bytes,
        known: Known | None,
        replaced: tuple[bytes, ...],
        school: str | None,
    ) -> Pending | None:
        """The student to be sent; None if it is held."""
        part, message, record, _ = row
        student = self._reader.student(record, school) if school is not None else None
        if student is None:
            mapped = self._mapper.map(self._dataset.row(record), unlinked=self._policy == "unlinked", school=school)
            for problem in mapped.broken:
                raise problem
            if not mapped.known_school and self._policy != "unlinked":
                if self._policy == "dead-letter":
                    raise UnknownSchool
                part.settle(record.line, "held", UNKNOWN_SCHOOL)
                return None
            self.unknown_grades += mapped.unknown_grade is not None
            # A copy: the encoder's own buffer was cut to size in place, with a hole of kilobytes behind each student.
            student = memoryview(orjson.dumps(mapped.student)).tobytes()
        self._busy[message.partition.number][key] = None
        return Pending(part, message, record.line, key, digest, known, replaced, student)


def _key(message: Message) -> bytes:
    """What a student goes by in the state: the record's key, however it was escaped."""
    raw = message.raw_key or b""
    return raw if raw.replace(_SEPARATOR, b"").isalnum() else encode_key((message.path,))
