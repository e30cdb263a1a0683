"""Sending files once: hand them to the sender, wait for the log, then for receipts if asked."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from headrace import keys
from headrace.events import FileEvent
from headrace.events import Outcome as ReceiptOutcome
from headrace.kafka.clients import Cluster
from headrace_files.openmsi.engine import make_engine, memory
from headrace_files.sending.engine import Engine
from headrace_files.sending.filelog import FileLog
from headrace_files.sending.jobs import Job, Outcome, Result
from headrace_files.sending.lock import SourceLock
from headrace_files.sending.sender import Options
from headrace_files.upload.files import Item
from headrace_files.upload.report import Report
from headrace_files.upload.waiting import AssemblyReceipts, Exit, exit_code

PATIENCE = 0.1  # seconds between two looks at how it goes
CHANGES = 3  # how often a file that changes while it is read is tried again
DRAIN = 5.0  # seconds


class Upload:
    """One run of `headrace upload`.

    Parameters:
        wait_assembled: also wait for an assembler's receipt of each file.
        sink: whose receipt counts; None: the first assembler's.
        timeout: seconds for everything; None: no limit.
    """

    def __init__(
        self,
        cluster: Cluster,
        state: Path,
        options: Options,
        report: Report,
        *,
        wait_assembled: bool = False,
        sink: str | None = None,
        timeout: float | None = None,
    ) -> None:
        self._cluster = cluster
        self._state = state
        self._options = options
        self._report = report
        self._wait_assembled = wait_assembled
        self._sink = sink
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._ended: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._sent: dict[str, FileEvent] = {}
        self._not_sent = 0
        self._attempts: Mapping[bytes, int] = {}
        self.interrupted: list[FileEvent] = []
        """The last words on versions that were left half-way."""
        self._tries: dict[bytes, int] = {}

    @property
    def sent(self) -> Collection[FileEvent]:
        """The announcements of the files that are on the log."""
        return self._sent.values()

    def run(self, files: Sequence[Item], stop: threading.Event, attempts: Mapping[bytes, int] | None = None) -> Exit:
        """Send `files`, and return what to tell scripts. `stop` ends it early.

        Parameters:
            attempts: by name on the log, for files that are offered again after a receiver failed them.

        Raises WrongChunkSize, MissingTopic, KafkaUnreachable, or what ended the sender.
        """
        began = time.monotonic()
        self._attempts = attempts or {}
        receipts = None
        source = self._options.source
        with SourceLock(self._state, source, self._cluster.settings.prefix).upload():
            if self._wait_assembled:
                paths = {keys.path_id(source, item.path).hex() for item in files}
                receipts = AssemblyReceipts(self._cluster, self._sink, paths)
            try:
                self._send(files, stop)
                outcomes = self._receive(receipts, stop) if receipts is not None else {}
            finally:
                if receipts is not None:
                    receipts.stop()
        unsent = len(files) - len(self._sent)
        if stop.is_set() and unsent:
            code = Exit.INTERRUPTED
        else:
            waited = [outcomes.get(path) for path in self._sent] if self._wait_assembled else []
            code = exit_code(waited, unsent=unsent > 0)
        self._report.close(
            {
                "sent": len(self._sent),
                "not_sent": unsent,
                "bytes": sum(event.size or 0 for event in self._sent.values()),
                "seconds": round(time.monotonic() - began, 3),
                "exit_code": int(code),
            }
        )
        return code

    def _send(self, files: Sequence[Item], stop: threading.Event) -> None:
        source = self._options.source
        log = FileLog(source, memory(self._options))
        in_pieces = [keys.path_id(source, item.path) for item in files if item.size > self._options.chunk]
        sender = make_engine(self._cluster, self._options, self._ended.put)
        if in_pieces:
            log.read(self._cluster, in_pieces)
        total = sum(item.size for item in files)
        try:
            for item in files:
                previous = log.unfinished(keys.path_id(source, item.path))
                attempt = max(previous.attempt if previous is not None else 0, self._attempts.get(item.path, 0))
                sender.submit(Job(item.path, item.location, None, attempt, previous=previous))
            while sender.unfinished or not self._ended.empty():
                if stop.is_set() or self._too_late():
                    break
                sender.check()
                self._take(sender)
                done = sum(event.size or 0 for event in self._sent.values())
                done += sum(transfer.acked for transfer in list(sender.active.values()))
                self._report.progress(done, total)
            self._report.progress(sum(event.size or 0 for event in self._sent.values()), total)
        finally:
            sender.stop(DRAIN)
            self._take_interrupted()

    def _take_interrupted(self) -> None:
        """What ended while the sender drained: some came to their end, others stopped half-way."""
        while not self._ended.empty():
            outcome = self._ended.get()
            event = outcome.event
            if outcome.result is Result.ANNOUNCED and event is not None:
                self._sent[event.path_id.hex()] = event
                self._report.sent(event)
            elif outcome.result is Result.INTERRUPTED and event is not None and event.state == "sending":
                self.interrupted.append(event)

    def abandon(self) -> None:
        """Close the versions that were left half-way, so that no receiver waits for the rest."""
        if self.interrupted:
            sender = make_engine(self._cluster, self._options, lambda _outcome: None)
            for event in self.interrupted:
                sender.abandon(event, "stopped")
            sender.stop(DRAIN)

    def _take(self, sender: Engine) -> None:
        try:
            outcome = self._ended.get(timeout=PATIENCE)
        except queue.Empty:
            return
        event = outcome.event
        if outcome.result is Result.ANNOUNCED and event is not None:
            self._sent[event.path_id.hex()] = event
            self._report.sent(event)
        elif outcome.result is Result.CHANGED and self._tries.get(outcome.job.path, 0) < CHANGES:
            self._tries[outcome.job.path] = self._tries.get(outcome.job.path, 0) + 1
            sender.submit(Job(outcome.job.path, outcome.job.location))
        else:
            self._not_sent += 1
            self._report.not_sent(outcome)

    def _receive(self, receipts: AssemblyReceipts, stop: threading.Event) -> dict[str, ReceiptOutcome]:
        outcomes: dict[str, ReceiptOutcome] = {}
        while len(outcomes) < len(self._sent) and not stop.is_set() and not self._too_late():
            receipt = receipts.next(PATIENCE)
            if receipt is None:
                continue
            event = self._sent.get(receipt.path_id)
            if event is not None and receipt.answers(event):
                outcomes[receipt.path_id] = receipt.outcome
                self._report.received(event, receipt)
        return outcomes

    def _too_late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline
