"""What a sender is asked to do, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from headrace.events import FileEvent
from headrace_files.sending.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Job:
    """One file to send.

    Parameters:
        path: its name on the log, relative, in the bytes of the file system.
        location: where to open it.
        root: folder that a symbolic link must not lead out of; None: links are followed.
        attempt: counts up when the same version is offered again.
        mark: of the version that is meant; if the file is another one by now, nothing is sent.
        previous: what the log says last of this path, if that version was left unfinished.
    """

    path: bytes
    location: bytes
    root: bytes | None = None
    attempt: int = 0
    mark: int | None = None
    previous: FileEvent | None = None


class Result(StrEnum):
    """What became of a job."""

    ANNOUNCED = "announced"
    CHANGED = "changed"
    VANISHED = "vanished"
    SKIPPED = "skipped"
    UNREADABLE = "unreadable"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a job. `reason` is for people; `event` is the last word on the log about this version, if any."""

    job: Job
    result: Result
    snapshot: Snapshot | None = None
    event: FileEvent | None = None
    reason: str | None = None
