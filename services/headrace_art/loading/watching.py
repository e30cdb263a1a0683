"""What a load shows while its files come: bytes here, stages and books later."""

from __future__ import annotations

from typing import Any

from headrace.cli.job_report import JobReport
from headrace.jobs.progress import StageProgress


class FilesShown:
    """Shows how files are fetched and sent, through the job's report.

    Parameters:
        source: the service that does it.
    """

    def __init__(self, report: JobReport, source: str) -> None:
        self._report, self._source = report, source

    def progress(self, path: str, done: int, total: int) -> None:
        """`done` of `total` bytes are here, or on the log."""
        figures = {"bytes": done, "bytes_total": total}
        self._report.progress([StageProgress(self._source, None, figures, file=path)])

    def say(self, event: str, path: str, **details: Any) -> None:
        """Something happened."""
        size = f", {details['bytes']:,} bytes" if details.get("bytes") is not None else ""
        reason = f": {details['reason']}" if details.get("reason") else ""
        self._report.note(f"{path}: {event}{size}{reason}")
