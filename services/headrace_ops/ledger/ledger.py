"""The ledger's memory: which jobs are open, their books, and what the log says of them. No Kafka, no clock.

Of a job that is done only a line is kept. When something new turns up for one, or a job gets a command whose evidence
went by before, it is `to_rebuild`: its evidence is read again. Source: design section 4, Ledger.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from headrace.events import Command, FileEvent, Job, UploadAck
from headrace.jobs.assessment import FINAL, Wanted, assess
from headrace.jobs.books import FileBooks
from headrace.jobs.ids import is_job_id
from headrace.jobs.log import Word
from headrace.kafka.following import Place

MOST_UNKNOWN = 100_000
"""Jobs without a command that are remembered, so that a late command finds what was said before it."""

FIRST_LOOK = 5.0
LONGEST_LOOK = 600.0
"""Seconds that a job lacks receipts before they are looked for under other jobs' names; doubled each time."""

Positions = Mapping[Place, int]


@dataclass(slots=True)
class OpenJob:
    """A job whose books may still change.

    `started` is in microseconds since the epoch, by the broker's clock. It is `dirty` until it was compared with what
    is on the log, and `settled` when they agreed that it is done. While receipts are all that is `lacking`, they are
    looked for under other jobs' names: next when it has been still until `look` (monotonic seconds).
    """

    command: Command
    started: int
    files: FileBooks = field(default_factory=FileBooks)
    dirty: bool = True
    settled: bool = False
    lacking: bool = False
    look: float | None = None
    patience: float = FIRST_LOOK


@dataclass(frozen=True, slots=True)
class Recorded:
    """The last entry of a job on the log: a digest of what it says, and up to where that goes."""

    told: bytes
    started: int
    offset: int
    positions: tuple[int, ...]
    final: bool


class Ledger:
    """Takes words on jobs and evidence, and says what is to be written.

    Parameters:
        places: every partition that evidence is read from.
    """

    def __init__(self, places: frozenset[Place]) -> None:
        self._places = tuple(sorted(places))
        self._index = {place: number for number, place in enumerate(self._places)}
        self.open: dict[str, OpenJob] = {}
        self.to_rebuild: set[str] = set()
        self._commands: dict[str, Word] = {}
        self._recorded: dict[str, Recorded] = {}
        self._unknown: set[str] = set()
        self._reading = False

    @property
    def files(self) -> int:
        """Versions of files in memory."""
        return sum(len(job.files) for job in self.open.values())

    def take_word(self, word: Word) -> None:
        """Take a command, or an entry of a ledger, this one or another."""
        if isinstance(word.event, Job):
            self._record(word.event, word.offset)
        else:
            self._command(word, word.event)

    def begin(self, ends: Positions) -> None:
        """All words that are there are taken, and no evidence yet: open every job that is not known to be done.

        Parameters:
            ends: the offset after the last by place. An entry that goes further is of topics that were deleted and
                made anew: it says nothing of these.
        """
        for job, last in self._recorded.items():
            if any(position > ends[place] for place, position in zip(self._places, last.positions, strict=True)):
                self._recorded[job] = replace(last, positions=(0,) * len(self._places))
        self._reading = True
        for job, word in self._commands.items():
            recorded = self._recorded.get(job)
            if recorded is None or not recorded.final or recorded.offset < word.offset:
                self._open(job)

    def wants(self, job: str, place: Place, offset: int) -> bool:
        """Whether evidence is to be taken now; else it is known already, or remembered for later."""
        if job in self.open:
            return True
        recorded = self._recorded.get(job)
        if job not in self._commands:
            if len(self._unknown) < MOST_UNKNOWN and is_job_id(job):
                self._unknown.add(job)
        elif recorded is None or offset >= recorded.positions[self._index[place]]:
            self.to_rebuild.add(job)
        return False

    def take(self, job: str, evidence: FileEvent | UploadAck, at: int | None = None) -> None:
        """Take what a source or a group said of an open job.

        Parameters:
            at: the broker's time in microseconds; None: it says nothing of when the job began.
        """
        found = self.open[job]
        if isinstance(evidence, FileEvent):
            found.files.take_event(evidence)
        else:
            found.files.take_receipt(evidence)
        if at is not None:
            found.started = min(found.started, at)
        found.dirty = True

    def withdraw(self, jobs: Iterable[str], group: str, file: bytes) -> None:
        """A group's word on a version was taken back: it is to be given anew, in the books of these open jobs."""
        for job in jobs:
            found = self.open[job]
            if file in found.files:
                found.files.withdraw(group, file)
                found.dirty = True

    def sharing(self, file: bytes, job: str | None) -> list[str]:
        """The open jobs, but for `job`, whose source says that this version is on the log."""
        return [name for name, found in self.open.items() if name != job and found.files.word(file) == "announced"]

    def to_look_for(self, now: float) -> dict[str, int]:
        """The jobs for which receipts under other jobs' names are to be looked for, and when each started.

        Parameters:
            now: monotonic seconds.
        """
        due = {}
        for job, found in self.open.items():
            if not found.lacking:
                found.look = None
            elif found.look is None:
                found.look = now + found.patience
            elif now >= found.look:
                found.patience = min(2 * found.patience, LONGEST_LOOK)
                found.look = now + found.patience
                due[job] = found.started
        return due

    def begin_rebuild(self) -> dict[str, int]:
        """The jobs whose evidence is to be read again, opened with empty books, and when each started."""
        wanted = sorted(self.to_rebuild)
        self.to_rebuild.clear()
        for job in wanted:
            self.open.pop(job, None)
            self._open(job)
        return {job: self.open[job].started for job in wanted}

    def entries(self, positions: Positions, now: int) -> Iterator[Job]:
        """What is to be written: each open job whose state or books differ from what is on the log.

        Nothing of a job that another ledger has followed further than this one.

        Parameters:
            positions: the next offset to read by place; everything before it was taken.
            now: microseconds since the epoch.
        """
        for job, found in self.open.items():
            if not found.dirty or job in self.to_rebuild:
                continue
            recorded = self._recorded.get(job)
            if recorded is not None and any(
                positions[place] < position for place, position in zip(self._places, recorded.positions, strict=True)
            ):
                continue
            entry = self._entry(job, found, positions, now)
            found.lacking = entry.state not in FINAL and any(
                found.files.unsettled(book.group)
                for book in entry.books[: len(Wanted.of(found.command).groups)]
                if book.expected is not None
            )
            same = recorded is not None and recorded.told == _digest(entry)
            answered = recorded is not None and recorded.offset > self._commands[job].offset
            found.dirty = False
            found.settled = same and answered and entry.state in FINAL
            if not (same and answered):
                yield entry

    def not_written(self, jobs: Iterable[str]) -> None:
        """Their entries did not get onto the log: they are to be tried again."""
        for job in jobs:
            if job in self.open:
                self.open[job].dirty = True

    def close(self) -> list[str]:
        """Let go of the jobs that are done and said to be, and return them."""
        done = [
            job for job, found in self.open.items() if found.settled and not found.dirty and job not in self.to_rebuild
        ]
        for job in done:
            del self.open[job]
        return done

    def _entry(self, job: str, found: OpenJob, positions: Positions, now: int) -> Job:
        assessment = assess(found.command, found.files)
        return Job(
            job=job,
            kind=found.command.kind,
            state=assessment.state,
            books=assessment.books,
            reason=assessment.reason,
            started=found.started,
            updated=now,
            ended=now if assessment.state in FINAL else None,
            positions={f"{topic}/{number}": positions[topic, number] for topic, number in self._places},
        )

    def _command(self, word: Word, command: Command) -> None:
        job = command.job
        self._commands[job] = word
        if not self._reading:
            return
        found = self.open.get(job)
        if found is not None:
            found.command = command
            found.dirty = True
            return
        fresh = job not in self._unknown and job not in self._recorded
        self._open(job)
        if not fresh:
            self.to_rebuild.add(job)

    def _record(self, entry: Job, offset: int) -> None:
        positions = tuple(entry.positions.get(f"{topic}/{number}", 0) for topic, number in self._places)
        self._recorded[entry.job] = Recorded(_digest(entry), entry.started, offset, positions, entry.state in FINAL)
        found = self.open.get(entry.job)
        if found is not None:
            found.started = min(found.started, entry.started)
            # Another ledger's word: see whether it is ours.
            found.dirty = True

    def _open(self, job: str) -> None:
        word = self._commands[job]
        if not isinstance(word.event, Command):
            raise TypeError("a command is no entry")
        recorded = self._recorded.get(job)
        started = word.at if recorded is None else min(word.at, recorded.started)
        self.open[job] = OpenJob(word.event, started)
        self._unknown.discard(job)


def _digest(entry: Job) -> bytes:
    """Stands for what makes two entries of a job differ."""
    told = (entry.kind, entry.state, entry.books, entry.reason, entry.started)
    return hashlib.blake2b(msgspec.msgpack.encode(told), digest_size=16).digest()
