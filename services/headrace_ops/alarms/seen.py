"""What the log has said, as far as alarms need it: bounded, whatever comes."""

from __future__ import annotations

import fnmatch
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta

from headrace.codec.avro import UnknownSchema
from headrace.events import FileEvent, Job, UploadAck
from headrace.jobs.assessment import Wanted
from headrace.jobs.log import Known, Word
from headrace.receipts import worst
from headrace_ops.alarms.rules import Handled, JobSeen

FAILED_REMEMBERED = 10_000
"""Failed items in memory, per group; the oldest go first."""
ATTEMPTS_REMEMBERED = 100_000
MOST_ATTEMPTS = 1000
BUCKETS = 60
"""Parts that the window for dead letters is counted in."""


class Seen:
    """Takes events and receipts in any order, any number of times; answers for a moment.

    Parameters:
        sources: those that matter; `jobs`: patterns of those that do.
        deciders: the group whose receipts are decisions on dead letters, which nobody handled anew.
        window: that dead letters are counted over.
    """

    def __init__(self, sources: Collection[str], jobs: Collection[str], deciders: str, window: timedelta) -> None:
        self._sources = frozenset(sources)
        self._patterns = tuple(jobs)
        self._deciders = deciders
        self._window = window.total_seconds()
        self._last_file: dict[str, datetime] = {}
        self._jobs: dict[str, Known] = {}
        self._handled: dict[str, dict[int, Handled]] = {}
        self._failed: dict[str, OrderedDict[str, float]] = {}
        self._offered_again: OrderedDict[str, None] = OrderedDict()

    def take_event(self, event: FileEvent, at: datetime) -> None:
        """A source's word, which came onto the log `at`."""
        if event.state == "announced" and event.source in self._sources:
            self._last_file[event.source] = max(at, self._last_file.get(event.source, at))
        # The later attempt is judged by itself, so the earlier one is no failure for good.
        for attempt in range(max(0, event.attempt - MOST_ATTEMPTS), event.attempt):
            earlier = event.id_as(attempt)
            self._offered_again[earlier.hex()] = None
            while len(self._offered_again) > ATTEMPTS_REMEMBERED:
                self._offered_again.popitem(last=False)

    def take_receipt(self, ack: UploadAck, at: datetime) -> None:
        """A service's word, which came onto the log `at`."""
        if ack.group == self._deciders or not ack.covers:
            return
        moment = at.timestamp()
        dead = [cover for cover in ack.covers if cover.outcome == "dead_lettered"]
        handled = Handled(
            sum(cover.count for cover in dead),
            sum(cover.count for cover in ack.covers),
            sum(cover.count for cover in dead if cover.code == UnknownSchema.code),
        )
        self._count(ack.group, moment, handled)
        failed = self._failed.setdefault(ack.group, OrderedDict())
        if worst(ack.covers).outcome == "failed":
            failed[ack.item] = moment
            if len(failed) > FAILED_REMEMBERED:
                failed.popitem(last=False)
        else:
            failed.pop(ack.item, None)

    def take_word(self, word: Word) -> None:
        """A command or the ledger's books."""
        if any(fnmatch.fnmatchcase(word.event.job, pattern) for pattern in self._patterns):
            self._jobs.setdefault(word.event.job, Known()).take(word)

    @property
    def last_files(self) -> Mapping[str, datetime]:
        """When each source announced a file last."""
        return self._last_file

    def jobs(self, now: datetime) -> dict[str, JobSeen]:
        """The jobs that matter. A standing job whose books are full is balanced now."""
        return {job: _job_seen(known, now) for job, known in self._jobs.items()}

    def handled(self, now: datetime) -> dict[str, Handled]:
        """What each service handled within the window before `now`."""
        oldest = self._bucket(now.timestamp() - self._window)
        found = {}
        for group, buckets in self._handled.items():
            for old in [bucket for bucket in buckets if bucket <= oldest]:
                del buckets[old]
            # What a broker whose clock is ahead has stamped counts, too.
            if buckets:
                found[group] = _sum(buckets.values())
        return found

    def failed(self, now: datetime, after: timedelta, lasting: timedelta) -> dict[str, list[str]]:
        """Items by group that failed at least `after` ago, at most `lasting` ago, and were not offered again."""
        newest = now.timestamp() - after.total_seconds()
        oldest = now.timestamp() - lasting.total_seconds()
        return {
            group: [item for item, at in items.items() if oldest < at <= newest and item not in self._offered_again]
            for group, items in self._failed.items()
        }

    def _bucket(self, moment: float) -> int:
        return int(moment * BUCKETS / self._window)

    def _count(self, group: str, moment: float, handled: Handled) -> None:
        # Partitions are read one after another when there is much to read: times go back and forth.
        bucket = self._bucket(moment)
        buckets = self._handled.setdefault(group, {})
        newest = max(buckets, default=bucket)
        if bucket > newest - BUCKETS:
            buckets[bucket] = _sum((buckets.get(bucket, Handled(0, 0)), handled))
            for old in [each for each in buckets if each <= bucket - BUCKETS]:
                del buckets[old]


def _sum(parts: Iterable[Handled]) -> Handled:
    return Handled(*(sum(each) for each in zip(*parts, strict=True)))


def _job_seen(known: Known, now: datetime) -> JobSeen:
    job = known.job
    if job is None:
        return JobSeen(None, "nobody keeps its books: is a ledger running?")
    if job.state == "balanced":
        return JobSeen(datetime.fromtimestamp((job.ended or job.updated) / 1e6, UTC), None)
    standing = known.wanted is not None and Wanted.of(known.wanted).standing
    if standing and job.state == "running" and job.reason is None and _full(job):
        return JobSeen(now, None)
    return JobSeen(None, f"{job.state}: {job.reason}" if job.reason else job.state)


def _full(job: Job) -> bool:
    return all(
        book.expected is None
        or book.expected <= book.delivered + book.unchanged + book.dead_lettered + book.held + book.failed
        for book in job.books
    )
