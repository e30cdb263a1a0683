"""The source: look at the server, fetch what is new and still, check it, send it on."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

import structlog

from headrace import keys
from headrace.datasets.catalogue import Dataset, Datasets
from headrace.errors import PermanentError, TransientError
from headrace.kafka.clients import Cluster
from headrace.kafka.insisting import insist
from headrace.sending_once import FileResult
from headrace.stage import kill
from headrace.stage.middleware.retries import delay
from headrace.topics import CHUNKS, CHUNKS_PERSONAL, FILES, Topic, said_of
from headrace_files.sending.filelog import FileLog, Word
from headrace_files.sending.jobs import Job, Outcome, Result
from headrace_files.sending.lock import SourceLock
from headrace_files.sending.receipts import Failures
from headrace_files.sending.sender import Options, Sender
from headrace_files.sftp_source.asking import Asked, keep
from headrace_files.sftp_source.checking import check_file
from headrace_files.sftp_source.connecting import connected
from headrace_files.sftp_source.errors import NothingToFetch, RemoteChanged, SpoolFull
from headrace_files.sftp_source.fetching import Fetch, Fetched
from headrace_files.sftp_source.names import log_path, remote_path
from headrace_files.sftp_source.protocol import Attributes
from headrace_files.sftp_source.report import Report, Silent
from headrace_files.sftp_source.reporting import Reporting
from headrace_files.sftp_source.settings import SftpSourceSettings

if TYPE_CHECKING:
    from headrace.families import Host

PATIENCE = 0.1
NANOSECONDS = 1_000_000_000


log = structlog.get_logger(__name__)


class Stopped(Exception):
    """The source is told to stop."""


class SftpSource:
    """Fetches files from one server, once or again and again, and sends each version of them once.

    Parameters:
        once: look at each file once, insist until it is sent or cannot be, and return.
        day: whose files to fetch; None: those of the day on which they are looked for.
        job: under which they are sent.
        asked: what a command of another family wants of them; None: this is no such command's.

    Raises NothingToFetch.
    """

    name: ClassVar[str] = "sftp_source"
    writes: ClassVar[Sequence[Topic]] = (CHUNKS, CHUNKS_PERSONAL, FILES)

    def __init__(
        self,
        settings: SftpSourceSettings,
        cluster: Cluster,
        state: Path,
        datasets: Datasets,
        *,
        once: bool = False,
        day: date | None = None,
        job: str | None = None,
        report: Report | None = None,
        reporting: Reporting | None = None,
        asked: Asked | None = None,
    ) -> None:
        if not settings.paths:
            raise NothingToFetch(host=settings.host)
        self._settings = settings
        self._cluster = cluster
        self._state = state
        self._once = once
        self._day = day
        self._job = job
        self._report = report or Silent()
        self._reporting = reporting
        self._asked = asked
        self._dataset: Dataset | None = datasets.named(settings.dataset) if settings.dataset else None
        self._topic = CHUNKS if self._dataset is None else self._dataset.chunks
        self._server = f"{settings.user}@{settings.host}:{settings.port}"
        self._folder = settings.folder or state / "sftp" / quote(settings.source, safe="")
        self._log = FileLog(settings.source)
        self._ended: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._failed: dict[bytes, str] = {}
        self._refused: dict[str, Attributes] = {}
        self.sent = self.unchanged = self.problems = self.bytes = 0
        self.results: list[FileResult] = []

    def run(self, stop: threading.Event) -> None:
        """Fetch and send until `stop` is set, or once.

        Raises ConfigError of one kind or another, SourceTaken, or what ended the sender.
        """
        began = time.monotonic()
        settings = self._settings
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with SourceLock(self._state, settings.source, self._cluster.settings.prefix).watch():
            sender = insist(stop, lambda: Sender(self._cluster, self._options(), self._ended.put))
            if sender is None or insist(stop, self._read_log) is None:
                return
            failures = Failures(self._cluster, self._knows, lambda path, _file, code: self._failed.update({path: code}))
            try:
                self._rounds(sender, stop)
            except Stopped:
                pass
            finally:
                failures.stop()
                sender.stop(settings.drain.total_seconds())
        summary = {
            "sent": self.sent, "unchanged": self.unchanged, "failed": self.problems, "bytes": self.bytes,
            "seconds": round(time.monotonic() - began, 3),
        }  # fmt: skip
        self._report.close(summary)

    def look(self) -> None:
        """Only say what would be fetched."""
        self._read_log()
        for pattern in self._settings.paths:
            path = self._path(pattern)
            try:
                with connected(self._settings) as reader:
                    found = self._fetch(path, threading.Event()).look(reader)
            except PermanentError as error:
                self.problems += 1
                self._report.say("failed", path, reason=str(error), code=error.code)
                continue
            event = "unchanged" if self._attempt(path, found) is None else "would-fetch"
            self._report.say(event, path, bytes=found.size)

    def _options(self) -> Options:
        settings = self._settings
        return Options(
            source=settings.source, chunk=settings.chunk_size, threads=1, dataset=settings.dataset, job=self._job,
            topic=self._topic,
            # The same version has the same id, whenever and wherever it was fetched.
            inodes=False, meta={} if self._asked is None else self._asked.meta,
        )  # fmt: skip

    def _read_log(self) -> FileLog:
        self._log.read(self._cluster)
        return self._log

    def _knows(self, path: bytes) -> bool:
        return self._log.entry(path) is not None

    def _path(self, pattern: str) -> str:
        return remote_path(pattern, self._day or datetime.now().astimezone().date())

    def _rounds(self, sender: Sender, stop: threading.Event) -> None:
        while not stop.is_set():
            due = time.monotonic() + self._settings.every.total_seconds()
            for pattern in self._settings.paths:
                self._one(self._path(pattern), sender, stop)
            if self._once:
                return
            while not stop.is_set() and time.monotonic() < due:
                sender.check()
                self._beat()
                stop.wait(min(1.0, max(0.0, due - time.monotonic())))

    def _one(self, path: str, sender: Sender, stop: threading.Event) -> None:
        """See one file through, however often the connection is lost on the way."""
        fetch = self._fetch(path, stop)
        if self._asked is not None and self._asked.restart_at is not None:
            fetch.cut(self._asked.restart_at)
        tries, moved = 0, 0
        while not stop.is_set():
            try:
                done = self._try(path, fetch, sender, stop)
            except TransientError as error:
                tries = 1 if fetch.moved > moved else tries + 1
                moved = fetch.moved
                log.warning("trying again", path=path, problem=str(error))
                if self._once and tries >= self._settings.tries:
                    self._problem(path, error, tries=tries)
                    return
                self._report.say("trying-again", path, reason=str(error), code=error.code)
                self._rest(delay(error, tries), sender, stop)
            except PermanentError as error:
                self._problem(path, error)
                return
            else:
                if done:
                    return

    def _try(self, path: str, fetch: Fetch, sender: Sender, stop: threading.Event) -> bool:
        with connected(self._settings) as reader:
            found = fetch.look(reader)
            attempt = self._attempt(path, found)
            if attempt is None or self._refused.get(path) == found:
                self.unchanged += 1
                self._report.say("unchanged", path, bytes=found.size)
                self.results.append(FileResult("unchanged", path, found.size))
                return True
            self._report.say("waiting", path, bytes=found.size)
            self._rest(self._settings.settle.total_seconds(), sender, stop)
            if fetch.look(reader) != found:
                # Its producer is still at it.
                return False
            fetched = fetch.run(reader, found)
        if fetched.resumed_at:
            self._report.say("resumed", path, at=fetched.resumed_at)
        self._report.say("fetched", path, bytes=found.size)
        kill.point("sftp_source.after-fetch")
        try:
            check_file(fetched.place, self._dataset)
        except PermanentError:
            # The same again when it is looked at again, so only another version is fetched.
            self._refused[path] = found
            fetch.forget()
            raise
        except OSError as error:
            raise SpoolFull(folder=self._folder, problem=error.strerror or str(error)) from error
        if self._asked is not None and self._asked.keep is not None:
            keep(fetched.place, self._asked.keep)
        if self._asked is None or self._asked.publish:
            self._send(path, fetched, attempt, sender, stop)
        else:
            self.results.append(FileResult("fetched", path, found.size))
        fetch.forget()
        return True

    def _attempt(self, path: str, found: Attributes) -> int | None:
        """Which attempt this version is to be sent as; None: it need not be."""
        name = log_path(path)
        identity = keys.path_id(self._settings.source, name)
        entry = self._log.entry(identity)
        if entry is None:
            return 0
        file = keys.file_id(
            self._settings.source, name, 0, found.size, found.mtime * NANOSECONDS, entry.attempt, said_of(self._topic)
        )
        if file != entry.file:
            return 0
        if identity in self._failed and entry.word is not Word.SENDING:
            return entry.attempt + 1 if entry.attempt < self._settings.attempts else None
        if entry.word is Word.ANNOUNCED and (self._asked is None or self._asked.knows(file)):
            return None
        return entry.attempt

    def _send(self, path: str, fetched: Fetched, attempt: int, sender: Sender, stop: threading.Event) -> None:
        """Send a file that is here, and wait until it is announced.

        Raises RemoteChanged if it changed here, of all places.
        """
        name = log_path(path)
        identity = keys.path_id(self._settings.source, name)
        location = str(fetched.place).encode("utf-8", "surrogateescape")
        sender.submit(Job(name, location, attempt=attempt, previous=self._log.unfinished(identity)))
        outcome = None
        while outcome is None:
            if stop.is_set():
                raise Stopped
            sender.check()
            self._beat()
            try:
                outcome = self._ended.get(timeout=PATIENCE)
            except queue.Empty:
                continue
        if outcome.event is not None:
            self._log.note(outcome.event)
        if outcome.result is not Result.ANNOUNCED or outcome.event is None:
            raise RemoteChanged(path=path, problem=outcome.reason or outcome.result.value)
        self._failed.pop(identity, None)
        self.sent += 1
        self.results.append(FileResult("sent", path, fetched.attributes.size, outcome.event.file))
        self.bytes += fetched.attributes.size
        self._report.say("sent", path, bytes=fetched.attributes.size, file=outcome.event.file.hex())
        log.info("sent", path=path, size=fetched.attributes.size, file=outcome.event.file.hex())
        if self._reporting is not None:
            self._reporting.sent(fetched.attributes.size)

    def _fetch(self, path: str, stop: threading.Event) -> Fetch:
        def progress(done: int, total: int) -> None:
            if stop.is_set():
                raise Stopped
            self._report.progress(path, done, total)
            self._beat(done)

        return Fetch(self._folder, self._server, path, self._settings.outstanding, progress)

    def _rest(self, seconds: float, sender: Sender, stop: threading.Event) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            sender.check()
            self._beat()
            if stop.wait(min(1.0, left)):
                raise Stopped

    def _problem(self, path: str, error: PermanentError | TransientError, **details: int) -> None:
        self.problems += 1
        self.results.append(FileResult("failed", path, code=error.code, reason=str(error)))
        self._report.say("failed", path, reason=str(error), code=error.code, **details)
        log.warning("not fetched", path=path, code=error.code, problem=str(error))
        if self._reporting is not None:
            self._reporting.failed(error.code)

    def _beat(self, done: int = 0) -> None:
        if self._reporting is not None:
            self._reporting.beat(done)


def service(settings: SftpSourceSettings, host: Host) -> SftpSource:
    """The source as `headrace run` and `headrace up` make it."""
    datasets = Datasets(host.settings.datasets.folder)
    reporting = Reporting(host.metrics, host.health)
    return SftpSource(settings, host.cluster, host.settings.state, datasets, reporting=reporting)
