"""What is known of each path of the watched tree: sent, waiting, on its way, failed. It decides and does nothing."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator

from headrace import keys
from headrace.events import FileEvent
from headrace.topics import CHUNKS, Topic
from headrace_files.directory_source.filters import Filter
from headrace_files.directory_source.settling import Settling
from headrace_files.sending.filelog import Entry, FileLog, Word
from headrace_files.sending.jobs import Job, Outcome, Result
from headrace_files.sending.snapshot import Snapshot

MOST_EARLY_FAILURES = 10_000


class Tree:
    """The paths of one tree, each a relative one in bytes; times `now` are seconds of a monotonic clock.

    Parameters:
        attempts: how often a version is offered again after a receiver failed.
        retry: seconds until a file that could not be read is tried again.
        new_only: what the first complete pass finds needs nothing, unless the log knows it.
        topic: where the frames go.
    """

    def __init__(
        self,
        root: bytes,
        source: str,
        log: FileLog,
        settling: Settling,
        accept: Filter,
        *,
        attempts: int = 3,
        retry: float = 60.0,
        inodes: bool = True,
        new_only: bool = False,
        topic: Topic = CHUNKS,
    ) -> None:
        self.log = log
        self._topic = topic
        self.settling = settling
        self.active: dict[bytes, bytes] = {}
        self.given_up: set[bytes] = set()
        self.unreadable: set[bytes] = set()
        self._root = root
        self._source = source
        self._accept = accept
        self._attempts = attempts
        self._retry = retry
        self._inodes = inodes
        self._skip_new = new_only
        self._settled: dict[bytes, int] = {}
        self._ready: deque[tuple[bytes, int]] = deque()
        self._queued: set[bytes] = set()
        self._on_the_way: set[bytes] = set()
        self._failed: set[bytes] = set()
        self._early: dict[bytes, bytes] = {}
        self._present: set[bytes] | None = None
        self._before_scan = 0
        self._hits = 0

    @property
    def settled(self) -> int:
        """How many files need nothing."""
        return len(self._settled)

    @property
    def waiting(self) -> int:
        """How many files are to be sent, now or when they have settled."""
        return len(self.settling) + len(self._ready)

    def waiting_paths(self) -> Iterator[bytes]:
        """The files that are to be sent."""
        yield from (path for path, _ in tuple(self._ready))
        yield from self.settling.paths()

    def knows(self, path_id: bytes) -> bool:
        """Whether a path with this id was or is being sent. Safe to call from any thread."""
        return path_id in self._on_the_way or self.log.entry(path_id) is not None

    # --- what is seen ---

    def begin_scan(self) -> None:
        """A pass over the whole tree begins."""
        # Most passes find everything that is settled; only after one that did not, the lost ones are looked for.
        self._present = set() if self._hits < self._before_scan else None
        self._before_scan = len(self._settled)
        self._hits = 0

    def end_scan(self, *, complete: bool) -> None:
        """The pass has ended; what a complete one did not meet is gone."""
        if self._present is not None and complete:
            for path in [path for path in self._settled if path not in self._present]:
                self.gone(path)
        self._present = None
        if complete:
            self._skip_new = False
        else:
            self._hits = self._before_scan

    def seen(self, path: bytes, status: os.stat_result, now: float, wall: float) -> None:
        """A regular file is at `path`; `wall` is the time of day in seconds since the epoch."""
        snapshot = Snapshot.of(status, inodes=self._inodes)
        mark = snapshot.mark
        settled = self._settled.get(path)
        if settled is not None:
            self._hits += 1
            if self._present is not None:
                self._present.add(path)
            if settled == mark:
                return
        if path in self.active or path in self._queued or not self._accept.takes(path):
            return
        if path not in self.settling:
            entry = self.log.entry(keys.path_id(self._source, path))
            if entry is not None and entry.word is Word.ANNOUNCED and self._is(entry, path, snapshot):
                self._settled[path] = mark
                return
            if entry is None and self._skip_new:
                self._settled[path] = mark
                return
        self.settling.look(path, mark, now, wall - max(status.st_mtime, status.st_ctime))

    def gone(self, path: bytes) -> None:
        """There is no file at `path` any more."""
        self._settled.pop(path, None)
        self.settling.forget(path)
        self.given_up.discard(path)
        self.unreadable.discard(path)

    def failed(self, path_id: bytes, file: bytes) -> None:
        """A receiver could do nothing with the version `file`."""
        entry = self.log.entry(path_id)
        if entry is not None and entry.file == file and entry.word is Word.ANNOUNCED:
            self.log.fail(path_id)
            self._failed.add(path_id)
        elif path_id in self._on_the_way and len(self._early) < MOST_EARLY_FAILURES:
            # Its announcement has not come back yet.
            self._early[path_id] = file

    def take_failed(self) -> list[bytes]:
        """The paths to look at since a receiver failed them. Costs a look at every settled path, so call it seldom."""
        if not self._failed:
            return []
        paths = [path for path in self._settled if keys.path_id(self._source, path) in self._failed]
        for path in paths:
            del self._settled[path]
        self._failed.clear()
        return paths

    def lost(self) -> list[FileEvent]:
        """Versions that were begun by an earlier process, whose path no scan has met."""
        return [
            event
            for event in self.log.all_unfinished()
            if event.path not in self.active and event.path not in self._queued and event.path not in self.settling
        ]

    # --- what is done about it ---

    def next_ready(self, now: float) -> tuple[bytes, int] | None:
        """The next path to send, with its mark."""
        for path, mark in self.settling.due(now):
            self._ready.append((path, mark))
            self._queued.add(path)
        if not self._ready:
            return None
        path, mark = self._ready.popleft()
        self._queued.discard(path)
        return path, mark

    def job(self, path: bytes, mark: int, status: os.stat_result | None, now: float) -> Job | None:
        """What to send of `path`, which was found still with `mark` and has `status` now; None: nothing."""
        path_id = keys.path_id(self._source, path)
        previous = self.log.unfinished(path_id)
        location = self._root + b"/" + path
        if status is None:
            self.gone(path)
            return (
                None if previous is None else self._begin(path_id, Job(path, location, self._root, previous=previous))
            )
        snapshot = Snapshot.of(status, inodes=self._inodes)
        if snapshot.mark != mark:
            self.settling.changed(path, snapshot.mark, now)
            return None
        attempt = 0
        entry = self.log.entry(path_id)
        if entry is not None and self._is(entry, path, snapshot):
            if entry.word is Word.ANNOUNCED:
                self._settled[path] = mark
                return None
            if entry.word is Word.FAILED and entry.attempt >= self._attempts:
                self._settled[path] = mark
                self.given_up.add(path)
                return None
            attempt = entry.attempt + (entry.word is not Word.SENDING)
        return self._begin(path_id, Job(path, location, self._root, attempt, mark, previous))

    def ended(self, outcome: Outcome, now: float) -> None:
        """A job has come to its end. Look at the path afterwards: it may have changed meanwhile."""
        path = outcome.job.path
        path_id = self.active.pop(path)
        self._on_the_way.discard(path_id)
        if outcome.event is not None:
            self.log.note(outcome.event)
        self.unreadable.discard(path)
        mark = outcome.job.mark
        match outcome.result:
            case Result.ANNOUNCED if outcome.snapshot is not None:
                self._settled[path] = outcome.snapshot.mark
                self.given_up.discard(path)
                early = self._early.pop(path_id, None)
                if early is not None:
                    self.failed(path_id, early)
            case Result.CHANGED if outcome.snapshot is not None:
                self.settling.changed(path, outcome.snapshot.mark, now)
            case Result.VANISHED:
                self.gone(path)
            case Result.SKIPPED if mark is not None:
                self._settled[path] = mark
            case Result.UNREADABLE if mark is not None:
                self.unreadable.add(path)
                self.settling.later(path, mark, now + self._retry)
        self._early.pop(path_id, None)

    def _begin(self, path_id: bytes, job: Job) -> Job:
        self.active[job.path] = path_id
        self._on_the_way.add(path_id)
        return job

    def _is(self, entry: Entry, path: bytes, snapshot: Snapshot) -> bool:
        return snapshot.file_id(self._source, path, entry.attempt, self._topic) == entry.file
