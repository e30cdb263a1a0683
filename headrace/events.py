"""The events of the spine's own topics, as typed values. Their wire form is `schemas/*.avsc` (design section 9).

Ids and hashes are bytes; times (`at`, `started`, …) are microseconds since the epoch, UTC.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from headrace.keys import file_id

FileState = Literal["sending", "announced", "aborted", "expired"]
Outcome = Literal["delivered", "unchanged", "dead_lettered", "held", "failed"]
JobState = Literal["waiting", "running", "stopping", "balanced", "failed", "stopped"]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What every Avro event of Headrace is: a named record."""


class FileEvent(Event, frozen=True, kw_only=True):
    """What a source says of one version of a file: identity, progress, announcement.

    `acked` counts contiguous bytes that the broker has acknowledged; `first` and `last` are offsets in `partition` of
    `topic`, which has no prefix; None means `chunks`.
    """

    path_id: bytes
    file: bytes
    source: str
    path: bytes
    state: FileState
    attempt: int
    inode: int | None = None
    mtime_ns: int
    ctime_ns: int | None = None
    size: int | None = None
    acked: int = 0
    alg: str | None = None
    hash: bytes | None = None
    partition: int
    first: int | None = None
    last: int | None = None
    dataset: str | None = None
    job: str | None = None
    reason: str | None = None
    topic: str | None = None
    at: int

    def id_as(self, attempt: int) -> bytes:
        """The id that this version has, or would have, as another attempt."""
        inode, size = self.inode or 0, self.size or 0
        return file_id(self.source, self.path, inode, size, self.mtime_ns, attempt, self.topic)


class Covers(Event, frozen=True, kw_only=True):
    """One outcome and what it covers: the whole item, or the `lines` of a file as a 64-bit roaring bitmap."""

    outcome: Outcome
    lines: bytes | None = None
    count: int = 1
    code: str | None = None


class UploadAck(Event, frozen=True, kw_only=True):
    """A receipt: what became of an item in one group, with the input offsets that it covers."""

    group: str
    item: str
    job: str | None = None
    file: bytes | None = None
    partition: int
    first: int
    last: int
    covers: list[Covers]
    where: str | None = None
    alg: str | None = None
    hash: bytes | None = None
    size: int | None = None
    etag: str | None = None
    version: str | None = None
    ctime_ns: int | None = None
    at: int


class EndMarker(Event, frozen=True, kw_only=True):
    """All records of `file` that belong into this partition of its dataset's topic are on the log before this.

    `lines` is a 64-bit roaring bitmap of their `count` lines. A file of many millions of lines has several in a
    partition: this is `part`, from 0, of `parts`. What comes of the same file after the last one only repeats what came
    before it. `total` counts the records of the file in all partitions.
    """

    job: str | None = None
    file: bytes
    dataset: str
    lines: bytes
    count: int
    part: int = 0
    parts: int = 1
    total: int
    source: str
    path: bytes
    at: int


class Command(Event, frozen=True, kw_only=True):
    """What an operator wants of a job: the whole desired state, the last one wins. `params` hold no secrets."""

    job: str
    kind: str
    desired: Literal["run", "stop"]
    params: dict[str, str] = {}
    by: str
    at: int


class Books(Event, frozen=True, kw_only=True):
    """One group's account of a job: what was expected and what became of it."""

    group: str
    expected: int | None = None
    delivered: int = 0
    unchanged: int = 0
    dead_lettered: int = 0
    held: int = 0
    failed: int = 0


class Job(Event, frozen=True, kw_only=True):
    """What the ledger has seen of a job.

    `positions` says up to where: per "topic/partition" (without the prefix) the offset before which everything is in
    these books.
    """

    job: str
    kind: str
    state: JobState
    books: list[Books] = []
    reason: str | None = None
    started: int
    updated: int
    ended: int | None = None
    positions: dict[str, int] = {}


class Progress(Event, frozen=True, kw_only=True):
    """How far a stage is with an item of a job while it is at it. Nothing rests on it: books are made of receipts.

    What `figures` may hold is said in `headrace.jobs.progress`.
    """

    job: str
    group: str
    stage: str
    item: str
    dataset: str | None = None
    figures: dict[str, int]
    at: int
