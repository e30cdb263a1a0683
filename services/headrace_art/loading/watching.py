"""What a load shows while its files come: bytes here, books later (`headrace.cli.job_report`)."""

from __future__ import annotations

import time
from typing import Any

from headrace.cli.job_report import JobReport

LINE_EVERY = 5.0
"""Seconds between two lines on one file."""


class FilesShown:
    """Shows how files are fetched and sent, through the job's report."""

    def __init__(self, report: JobReport) -> None:
        self._report = report
        self._next = time.monotonic() + LINE_EVERY

    def progress(self, path: str, done: int, total: int) -> None:
        """`done` of `total` bytes are here, or on the log."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_EVERY
            self._report.note(f"{path}: {done:,} of {total:,} bytes ({100 * done // max(total, 1)} %)")

    def say(self, event: str, path: str, **details: Any) -> None:
        """Something happened."""
        size = f", {details['bytes']:,} bytes" if details.get("bytes") is not None else ""
        reason = f": {details['reason']}" if details.get("reason") else ""
        self._report.note(f"{path}: {event}{size}{reason}")
