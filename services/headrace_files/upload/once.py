"""Local files that a command of another family wants sent under its job."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace.datasets.catalogue import chunks_of
from headrace.events import FileEvent
from headrace.jobs.evidence import read_evidence
from headrace.sending_once import Around, FileRequest, FileResult, Watcher
from headrace_files.sending.jobs import Outcome
from headrace_files.sending.sender import Options
from headrace_files.sending.snapshot import printable
from headrace_files.upload.files import items
from headrace_files.upload.job import to_send
from headrace_files.upload.service import Upload
from headrace_files.upload.waiting import Receipt


class _Told:
    """An upload's report of one file, passed on."""

    def __init__(self, watcher: Watcher, path: str) -> None:
        self._watcher, self._path = watcher, path
        self.reason: str | None = None

    def progress(self, done: int, total: int) -> None:
        """`done` of `total` bytes are on the log."""
        self._watcher.progress(self._path, done, total)

    def sent(self, event: FileEvent) -> None:
        """The file is on the log."""
        self._watcher.say("sent", self._path, bytes=event.size, file=event.file.hex())

    def not_sent(self, outcome: Outcome) -> None:
        """It is not."""
        self.reason = outcome.reason or outcome.result.value
        self._watcher.say("failed", self._path, reason=self.reason, code="not-sent")

    def received(self, event: FileEvent, receipt: Receipt) -> None:
        """Receipts are not waited for."""

    def close(self, summary: dict[str, Any]) -> None:
        """The results say it all."""


def send_once(files: Sequence[FileRequest], around: Around) -> list[FileResult]:
    """Send local files. Raises NothingToSend, or what ended the sender."""
    # All of them are there, or nothing is sent.
    for each in files:
        items([Path(each.path)], None)
    results = []
    for each in files:
        if around.stop.is_set():
            results.append(FileResult("stopped", each.path))
        elif not around.publish:
            results.append(FileResult("fetched", each.path, Path(each.path).stat().st_size))
        else:
            results.append(_send(each, around))
    return results


def _send(request: FileRequest, around: Around) -> FileResult:
    options = Options(
        platform.node(), threads=1, dataset=request.dataset, job=around.job, meta=request.meta,
        topic=chunks_of(request.dataset, around.settings.datasets.folder),
    )  # fmt: skip
    (item,) = items([Path(request.path)], None)
    name = printable(item.path)
    known = read_evidence(around.cluster, around.job)
    left = to_send([item], options, known, around.groups)
    if not left:
        around.watcher.say("unchanged", name, bytes=item.size)
        return FileResult("unchanged", name, item.size)
    told = _Told(around.watcher, name)
    work = Upload(around.cluster, around.settings.state, options, told)
    work.run([each.item for each in left], around.stop, {each.item.path: each.attempt for each in left})
    for event in work.sent:
        return FileResult("sent", name, event.size or 0, event.file)
    if around.stop.is_set():
        return FileResult("stopped", name, item.size)
    return FileResult("failed", name, item.size, code="not-sent", reason=told.reason)
