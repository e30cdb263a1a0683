"""Files of a server that a command of another family wants sent under its job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.datasets.catalogue import Datasets
from headrace.jobs.evidence import read_evidence
from headrace.sending_once import Around, FileRequest, FileResult, Watcher
from headrace_files.sftp_source.asking import Asked
from headrace_files.sftp_source.service import SftpSource
from headrace_files.sftp_source.settings import SftpSourceSettings

SECTION = "sftp_source"


class _Told:
    """The source's report, passed on."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def progress(self, path: str, done: int, total: int) -> None:
        """`done` of `total` bytes are here."""
        self._watcher.progress(path, done, total)

    def say(self, event: str, path: str, **details: Any) -> None:
        """Something happened."""
        self._watcher.say(event, path, **details)

    def close(self, summary: dict[str, Any]) -> None:
        """The results say it all."""


def send_once(files: Sequence[FileRequest], around: Around) -> list[FileResult]:
    """Fetch files and send them. Raises ConfigError of one kind or another, SourceTaken, or what ended the sender."""
    datasets = Datasets(around.settings.datasets.folder)
    results: list[FileResult] = []
    for each in files:
        values = {**around.overrides, "paths": [each.path], "dataset": each.dataset, "metrics_port": "0"}
        settings = around.sources.section(SECTION, SftpSourceSettings, values).values
        known = read_evidence(around.cluster, around.job) if around.publish else None
        versions = known.versions.values() if known is not None else ()
        asked = Asked(
            frozenset(event.file for event in versions if event.state == "announced"),
            each.meta, each.keep, each.restart_at, around.publish,
        )  # fmt: skip
        source = SftpSource(
            settings, around.cluster, around.settings.state, datasets, once=True, day=around.day, job=around.job,
            report=_Told(around.watcher), asked=asked,
        )  # fmt: skip
        source.run(around.stop)
        results += source.results or [FileResult("stopped", each.path)]
    return results
