"""What is alarming: pure functions from what is known, and the time, to alarms.

An alarm is the same as long as its kind and what it is about are the same; its message says how it was when looked at.
Messages hold names of sources, jobs, groups, topics and folders, never those of files.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Literal, NamedTuple

from headrace.config import format_duration
from headrace.kafka.following import Place
from headrace.proof.report import size_text
from headrace_ops.positions import Positions

Kind = Literal[
    "silent-source", "job-overdue", "dead-letters", "unknown-schema", "retention", "disk-low", "file-failed"
]  # fmt: skip

LEAST_LAG = 10
"""Messages: who has no more to do than these is not late, however little a topic keeps."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something an operator must look at."""

    kind: Kind
    about: str
    message: str


class Handled(NamedTuple):
    """How much of what a service handled in some time was put aside, and of that for want of the writer's schema."""

    dead: int
    all: int
    unknown: int = 0


class JobSeen(NamedTuple):
    """What matters of a job: since when it is balanced, None if it is not, and what its books say is missing."""

    balanced: datetime | None
    missing: str | None


def silent_sources(limits: Mapping[str, timedelta], last: Mapping[str, datetime], now: datetime) -> Iterator[Alarm]:
    """Sources that announced no file for longer than they may.

    Parameters:
        limits: by source; `last`: when each announced a file last, if it did within the longest of the limits.
    """
    for source, limit in limits.items():
        since = last.get(source)
        if since is None:
            yield Alarm("silent-source", source, f"no file from {source} for at least {format_duration(limit)}")
        elif now - since > limit:
            told = format_duration(limit)
            yield Alarm("silent-source", source, f"no file from {source} since {_clock(since)}, longer ago than {told}")


def jobs_overdue(due: Mapping[str, time], jobs: Mapping[str, JobSeen], now: datetime) -> Iterator[Alarm]:
    """Patterns of which no job was balanced in the 24 hours before the last time of day that one was due, or since.

    Parameters:
        due: by id or pattern; `now` is in the zone that these times are meant in.
    """
    for pattern, of_day in due.items():
        deadline = last_deadline(of_day, now)
        matching = {job: seen for job, seen in jobs.items() if fnmatch.fnmatchcase(job, pattern)}
        if any(
            seen.balanced is not None and seen.balanced > deadline - timedelta(days=1) for seen in matching.values()
        ):
            continue
        open_jobs = sorted(
            f"{job}{f' ({seen.missing})' if seen.missing else ''}"
            for job, seen in matching.items()
            if seen.balanced is None
        )
        told = ", ".join(open_jobs[-3:]) or "there is no such job"
        yield Alarm("job-overdue", pattern, f"no job {pattern} is balanced that was due at {_clock(deadline)}: {told}")


def last_deadline(of_day: time, now: datetime) -> datetime:
    """The last moment that was this time of day, in the zone of `now`."""
    today = datetime.combine(now.date(), of_day, now.tzinfo)
    return today if today <= now else datetime.combine(now.date() - timedelta(days=1), of_day, now.tzinfo)


def dead_letters(share: float, handled: Mapping[str, Handled], window: timedelta) -> Iterator[Alarm]:
    """Services that put more aside than they may, by group."""
    for group, counts in handled.items():
        if counts.dead > share * counts.all:
            told = f"{counts.dead} of {counts.all} in {format_duration(window)}, more than {share:.2%}"
            yield Alarm("dead-letters", group, f"{group} put aside {told}; see: headrace dlq list")


def unknown_schemas(handled: Mapping[str, Handled]) -> Iterator[Alarm]:
    """Services that met events of a schema that they do not carry: even one means that they must be upgraded."""
    for group, counts in handled.items():
        if counts.unknown:
            told = "were written with a schema that it does not carry; upgrade it, then: headrace dlq redrive"
            yield Alarm("unknown-schema", group, f"{counts.unknown} messages for {group} {told}")


def retention(
    positions: Positions,
    aged: Mapping[Place, int],
    limits: Mapping[str, timedelta],
    sized: Collection[str] = (),
    share: float = 0.5,
) -> Iterator[Alarm]:
    """Groups that still need what is past its share of the retention of its topic, whether age or size ends it.

    It is the low-water mark that counts: who takes over goes on from there.

    Parameters:
        aged: by place the first offset that is younger than that share of the retention by age.
        limits: that share of the retention by age, by topic.
        sized: topics of which a partition keeps so many bytes; `share`: that of the retention by size. Clients cannot
            ask for sizes, so messages are counted, and only where something was deleted already.
    """
    for group, committed in positions.groups.items():
        late: dict[str, dict[Place, list[str]]] = {}
        for place, where in committed.items():
            topic = place[0]
            begin, end = positions.begins.get(place, 0), positions.ends.get(place, 0)
            reasons = []
            if topic in limits and where.low < min(aged.get(place, 0), end):
                reasons.append(f"older than {format_duration(limits[topic])}")
            if topic in sized and _nearly_outgrown(where.low, begin, end, share):
                reasons.append(f"among the oldest {1 - share:.0%} of what its size lets it keep")
            if reasons:
                late.setdefault(topic, {})[place] = reasons
        for topic, places in late.items():
            told = " or ".join(sorted({reason for reasons in places.values() for reason in reasons}, reverse=True))
            expired = sum(committed[place].low < positions.begins.get(place, 0) for place in places)
            gone = f"; in {expired} of them they have expired already" if expired else ""
            message = f"{group} needs messages of {topic} that are {told}, in {len(places)} partitions{gone}"
            yield Alarm("retention", f"{group} {topic}", message)


def _nearly_outgrown(low: int, begin: int, end: int, share: float) -> bool:
    """Whether a place is past its share of a partition that has begun to delete what is too much."""
    return begin > 0 and end - low > LEAST_LAG and low - begin < (1 - share) * (end - begin)


def disks_low(least: int, free: Mapping[str, int]) -> Iterator[Alarm]:
    """Disks with less free space than they should have, in bytes, by folder."""
    for folder, size in free.items():
        if size < least:
            yield Alarm("disk-low", folder, f"{size_text(size)} free at {folder}, less than {size_text(least)}")


def files_failed(failed: Mapping[str, Iterable[str]]) -> Iterator[Alarm]:
    """Groups with files that failed for good; `failed` holds the ids of their versions, by group."""
    for group, items in failed.items():
        ids = sorted(items)
        if ids:
            named = ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")
            yield Alarm("file-failed", group, f"{len(ids)} failed for good in {group}: {named}; see: headrace verify")


def _clock(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="minutes")
