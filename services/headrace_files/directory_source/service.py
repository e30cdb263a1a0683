"""The source: events and scans say where to look, what has settled is sent, receipts say what to send again."""

from __future__ import annotations

import os
import queue
import stat
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import structlog

from headrace.datasets.catalogue import chunks_of
from headrace.kafka.clients import Cluster
from headrace.kafka.insisting import insist
from headrace.topics import CHUNKS, CHUNKS_PERSONAL, FILES, Topic
from headrace_files.directory_source import scan
from headrace_files.directory_source.events import EventWatcher, Hint
from headrace_files.directory_source.filters import Filter, is_own
from headrace_files.directory_source.reporting import Reporting
from headrace_files.directory_source.scan import Walk
from headrace_files.directory_source.settings import DirectorySourceSettings
from headrace_files.directory_source.settling import Settling
from headrace_files.directory_source.tree import Tree
from headrace_files.openmsi.engine import abroad, make_engine, memory
from headrace_files.sending.engine import Engine
from headrace_files.sending.errors import NotAFolder
from headrace_files.sending.filelog import FileLog
from headrace_files.sending.jobs import Outcome, Result
from headrace_files.sending.lock import SourceLock
from headrace_files.sending.receipts import Failures
from headrace_files.sending.sender import Options
from headrace_files.sending.snapshot import printable

if TYPE_CHECKING:
    from headrace.families import Host

SLICE = 2000  # entries of a scan between two looks at everything else
AHEAD = 500  # jobs handed to the sender before their turn
NAP = 0.2  # seconds the loop sleeps at most
SECOND_LOOK = 1.0  # seconds after which a new folder is walked again, for what came before its watch stood
FAILURES_EVERY = 1.0  # seconds
LEAST_RETRY = 10.0  # seconds until an unreadable file is tried again


log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Failed:
    path_id: bytes
    file: bytes
    code: str


@dataclass(frozen=True, slots=True)
class _Missed:
    """Events were lost."""


class Observer(Protocol):
    """Who wants to know what the source does: metrics, health, a terminal. Called from the loop's thread."""

    def turn(self, source: DirectorySource) -> None:
        """The loop has come round."""

    def ended(self, outcome: Outcome) -> None:
        """A file has come to its end."""


class DirectorySource:
    """Sends every file of one folder, and every one that is added."""

    name: ClassVar[str] = "directory_source"
    writes: ClassVar[Sequence[Topic]] = (CHUNKS, CHUNKS_PERSONAL, FILES)

    def __init__(
        self,
        settings: DirectorySourceSettings,
        cluster: Cluster,
        state: Path,
        *,
        once: bool = False,
        observers: tuple[Observer, ...] = (),
        job: str | None = None,
        topic: Topic = CHUNKS,
    ) -> None:
        self.settings = settings
        self._options = options_of(settings, topic, job)
        self.root = os.path.realpath(os.fsencode(settings.root))
        self.sent = 0
        self.problems = 0
        self.scanned = False
        self.sender: Engine | None = None
        self._cluster = cluster
        self._state = state
        self._once = once
        self._observers = observers
        self._inbox: queue.SimpleQueue[Outcome | list[Hint] | _Failed | _Missed] = queue.SimpleQueue()
        self._quit = threading.Event()
        self._scans: deque[tuple[Walk, Iterator[tuple[bytes, os.stat_result]]]] = deque()
        self._second_looks: deque[tuple[float, bytes]] = deque()
        self._told: set[bytes] = set()
        self._scan_every = scan_seconds(settings)
        self._next_scan = 0.0
        self._next_failures = 0.0
        self.tree = make_tree(settings, self.root, self._options)

    @classmethod
    def hosted(
        cls,
        settings: DirectorySourceSettings,
        host: Host,
        *,
        once: bool = False,
        observers: tuple[Observer, ...] = (),
        job: str | None = None,
    ) -> DirectorySource:
        """The source in a process that shows its metrics and health.

        Raises UnknownDataset, DatasetMalformed, TopicAndFormat.
        """
        reporting = Reporting(host.metrics, host.health)
        topic = chunks_of(settings.dataset, host.settings.datasets.folder)
        return cls(
            settings, host.cluster, host.settings.state, once=once, observers=(reporting, *observers), job=job,
            topic=topic,
        )  # fmt: skip

    def summary(self) -> str:
        """What was done, in a line."""
        return f"{self.sent} files sent, {self.tree.waiting} waiting, {self.problems} could not be read"

    def quit(self) -> None:
        """Finish the files that are begun, however long it takes, and return from `run`."""
        self._quit.set()

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set, then drain and return.

        Raises NotAFolder, SourceTaken, WrongChunkSize, MissingTopic, KafkaUnreachable, or what ended the sender.
        """
        try:
            os.listdir(self.root)  # noqa: PTH208 - in bytes
        except OSError as error:
            raise NotAFolder(path=printable(self.root), problem=error.strerror) from error
        with SourceLock(self._state, self.settings.source, self._cluster.settings.prefix).watch() as lock:
            sender = self.sender = insist(stop, lambda: make_engine(self._cluster, self._options, self._inbox.put))
            if sender is None or insist(stop, self._read_log) is None:
                return
            watcher = None
            if not self.settings.polling and not self._once:
                # Before the first scan: what comes between the two would be seen by nobody.
                watcher = EventWatcher(
                    self.root, lambda hints: self._inbox.put(list(hints)), lambda: self._inbox.put(_Missed())
                )
                watcher.wait_ready()
            failures = Failures(
                self._cluster, self.tree.knows, lambda path, file, code: self._inbox.put(_Failed(path, file, code))
            )
            log.info("watching", root=printable(self.root), source=self.settings.source, known=len(self.tree.log))
            try:
                while not stop.is_set() and not self._quit.is_set():
                    self._turn(sender, lock)
                    if self._once and self.scanned and not (self.tree.waiting or self.tree.active):
                        break
            finally:
                if watcher is not None:
                    watcher.stop()
                failures.stop()
                sender.stop(None if self._quit.is_set() else self.settings.drain.total_seconds())
                self._take_inbox()

    def _read_log(self) -> FileLog:
        self.tree.log.read(self._cluster)
        return self.tree.log

    def _turn(self, sender: Engine, lock: SourceLock) -> None:
        sender.check()
        self._take_inbox()
        now = time.monotonic()
        if now >= self._next_scan and not self._scans:
            self._next_scan = now + self._scan_every
            self.tree.begin_scan()
            self._walk(b"")
        while self._second_looks and self._second_looks[0][0] <= now:
            self._walk(self._second_looks.popleft()[1])
        self._scan_slice(sender, lock)
        if now >= self._next_failures:
            self._next_failures = now + FAILURES_EVERY
            for path in self.tree.take_failed():
                self._look(path)
        self._submit(sender)
        for observer in self._observers:
            observer.turn(self)
        self._sleep()

    def _sleep(self) -> None:
        if self._scans:
            return
        now = time.monotonic()
        due = self.tree.settling.next_due()
        until = min(now + NAP, self._next_scan, due if due is not None else now + NAP)
        try:
            item = self._inbox.get(timeout=max(until - now, 0.001))
        except queue.Empty:
            return
        self._take(item)

    def _take_inbox(self) -> None:
        while True:
            try:
                item = self._inbox.get_nowait()
            except queue.Empty:
                return
            self._take(item)

    def _take(self, item: Outcome | list[Hint] | _Failed | _Missed) -> None:
        match item:
            case Outcome():
                self._ended(item)
            case _Failed():
                log.warning(
                    "a receiver failed a file", code=item.code, path_id=item.path_id.hex(), file=item.file.hex()
                )
                self.tree.failed(item.path_id, item.file)
            case _Missed():
                self._next_scan = 0.0
            case list():
                for hint in item:
                    self._look(hint.path, appeared=hint.appeared)

    def _ended(self, outcome: Outcome) -> None:
        path = outcome.job.path
        if outcome.result is Result.ANNOUNCED:
            self.sent += 1
        elif outcome.result in (Result.UNREADABLE, Result.SKIPPED):
            self.problems += 1
            if path not in self._told:
                self._told.add(path)
                log.warning("not sent", path=printable(path), reason=outcome.reason)
        self.tree.ended(outcome, time.monotonic())
        for observer in self._observers:
            observer.ended(outcome)
        if outcome.result in (Result.ANNOUNCED, Result.CHANGED):
            self._told.discard(path)
            self._look(path)

    def _look(self, path: bytes, *, appeared: bool = False) -> None:
        if not path or is_own(path):
            return
        status = scan.look(self.root, path)
        if status is None:
            self.tree.gone(path)
        elif stat.S_ISREG(status.st_mode):
            self.tree.seen(path, status, time.monotonic(), time.time())
        elif stat.S_ISDIR(status.st_mode) and appeared:
            self._walk(path)
            self._second_looks.append((time.monotonic() + SECOND_LOOK, path))

    def _walk(self, start: bytes) -> None:
        walk = Walk(self.root, start, told=self._told)
        self._scans.append((walk, walk.files()))

    def _scan_slice(self, sender: Engine, lock: SourceLock) -> None:
        if not self._scans:
            return
        walk, files = self._scans[0]
        now, wall = time.monotonic(), time.time()
        for _ in range(SLICE):
            found = next(files, None)
            if found is None:
                break
            self.tree.seen(*found, now, wall)
        else:
            return
        self._scans.popleft()
        if walk.start:
            return
        self.tree.end_scan(complete=walk.complete)
        if not self.scanned and walk.complete:
            self.scanned = True
            self._close_lost(sender, lock)
            log.info("scanned", settled=self.tree.settled, waiting=self.tree.waiting + len(self.tree.active))

    def _close_lost(self, sender: Engine, lock: SourceLock) -> None:
        """Close the versions that an earlier process left unfinished and whose file is gone."""
        lost = [event for event in self.tree.lost() if scan.look(self.root, event.path) is None]
        if lost and lock.uploads_run():
            log.info("unfinished files are left to the uploads that run", files=len(lost))
            return
        for event in lost:
            log.info("vanished before it was sent", path=printable(event.path))
            self.tree.log.note(sender.abandon(event, "vanished"))

    def _submit(self, sender: Engine) -> None:
        now = time.monotonic()
        while sender.unfinished < AHEAD:
            found = self.tree.next_ready(now)
            if found is None:
                return
            path, mark = found
            given_up = len(self.tree.given_up)
            job = self.tree.job(path, mark, scan.look_at_file(self.root, path), now)
            if job is not None:
                sender.submit(job)
            elif len(self.tree.given_up) > given_up:
                log.error(
                    "given up: receivers failed every attempt", path=printable(path), attempts=self.settings.attempts
                )


def scan_seconds(settings: DirectorySourceSettings) -> float:
    """Seconds between two scans."""
    return (settings.poll_every if settings.polling else settings.scan_every).total_seconds()


def options_of(settings: DirectorySourceSettings, topic: Topic, job: str | None = None) -> Options:
    """How to send. Raises TopicAndFormat."""
    return Options(
        source=settings.source,
        chunk=settings.chunk_size,
        threads=settings.threads,
        most_messages=settings.queue_messages,
        dataset=settings.dataset,
        job=job,
        inodes=settings.inodes,
        topic=topic,
        abroad=abroad(settings.format, settings.topic),
    )


def make_tree(settings: DirectorySourceSettings, root: bytes, options: Options) -> Tree:
    """What is known of the tree at `root` before the log is read: nothing."""
    return Tree(
        root,
        settings.source,
        FileLog(settings.source, memory(options)),
        Settling(settings.settle.total_seconds()),
        Filter(settings.include, settings.exclude),
        attempts=settings.attempts,
        retry=max(scan_seconds(settings), LEAST_RETRY),
        inodes=settings.inodes,
        new_only=settings.new_only,
        topic=options.topic,
    )


def service(settings: DirectorySourceSettings, host: Host) -> DirectorySource:
    """The source as `headrace run` and `headrace up` make it."""
    return DirectorySource.hosted(settings, host)
