"""An upload whose books are kept: what is on the log already is not sent again, what failed is offered once more."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from headrace import keys
from headrace.cli.source_job import SourceJob
from headrace.events import FileEvent
from headrace.jobs.assessment import Exit, Wanted
from headrace.jobs.evidence import Evidence, read_evidence
from headrace.kafka.clients import Cluster
from headrace_files.sending.sender import Options
from headrace_files.sending.snapshot import Snapshot
from headrace_files.upload.files import Item
from headrace_files.upload.service import Upload


@dataclass(frozen=True, slots=True)
class ToSend:
    """A file that is not on the log under the job, or that a receiver failed there: then with a new attempt."""

    item: Item
    attempt: int


def to_send(files: Iterable[Item], options: Options, known: Evidence, groups: Sequence[str]) -> list[ToSend]:
    """What of `files` is left to do, by what the log says of the job."""
    failed = {file for group in groups for file, _ in known.books.files_with(group, frozenset({"failed"}))}
    versions: defaultdict[bytes, list[FileEvent]] = defaultdict(list)
    for event in known.versions.values():
        versions[event.path_id].append(event)
    found = []
    for item in files:
        source, topic = options.source, options.topic
        snapshot = Snapshot.of(os.stat(item.location))  # noqa: PTH116 - in bytes
        same = [
            event
            for event in versions[keys.path_id(source, item.path)]
            if event.state == "announced" and event.file == snapshot.file_id(source, item.path, event.attempt, topic)
        ]
        newest = max(same, key=lambda event: event.attempt, default=None)
        if newest is None:
            found.append(ToSend(item, 0))
        elif newest.file in failed:
            found.append(ToSend(item, newest.attempt + 1))
    return found


def upload_under(
    job: SourceJob, cluster: Cluster, files: Sequence[Item], options: Options, make: Callable[[], Upload]
) -> Exit:
    """Send what is left to send of a job, and follow it until its books balance.

    Parameters:
        make: an upload with the job in its options.
    """
    if not job.sends:
        return job.leave()
    known = read_evidence(cluster, job.job) if job.known.wanted is not None else Evidence()
    announced = {event.file for event in known.versions.values() if event.state == "announced"}
    left = to_send(files, options, known, job.groups)
    if not left and _is_said(job, len(announced)):
        return job.finish()
    unsent = 0
    if left:
        job.begin()
        work = make()
        work.run([each.item for each in left], job.asked.leave, {each.item.path: each.attempt for each in left})
        announced.update(event.file for event in work.sent)
        unsent = len(left) - len(work.sent)
        if job.told_to_stop():
            work.abandon()
            return job.finish()
        if job.asked.leave.is_set() and unsent:
            return job.leave()
    job.announced_all(len(announced))
    code = job.finish()
    return Exit.FAILED if unsent and code is not Exit.DETACHED else code


def _is_said(job: SourceJob, announced: int) -> bool:
    """Whether the job's command on the log says all that there is to say."""
    wanted = job.known.wanted
    if wanted is None or wanted.desired == "stop":
        return False
    return Wanted.of(wanted) == Wanted(job.groups, announced)
