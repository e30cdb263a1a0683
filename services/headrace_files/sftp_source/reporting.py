"""Metrics and health of a source of one server."""

from __future__ import annotations

import time

from headrace.observe.health import Health
from headrace.observe.metrics import MetricEntry, Metrics

METRICS = (
    MetricEntry("sftp_files_total", "counter", "Files that were looked for and came to an end.", ("result",)),
    MetricEntry("sftp_bytes_total", "counter", "Bytes of files that were fetched and sent."),
    MetricEntry("sftp_fetched_bytes", "gauge", "Bytes of the file that is being fetched that are here."),
)

EVERY = 1.0  # seconds


class Reporting:
    """Keeps `metrics` and `health` up to date."""

    def __init__(self, metrics: Metrics, health: Health) -> None:
        self._metrics = metrics
        self._health = health
        self._next = 0.0

    def beat(self, done: int) -> None:
        """The source is at work, `done` bytes into a file."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + EVERY
            self._metrics.set("sftp_fetched_bytes", done)
            self._health.beat()

    def sent(self, size: int) -> None:
        """A file is on the log."""
        self._metrics.add("sftp_files_total", result="sent")
        self._metrics.add("sftp_bytes_total", size)

    def failed(self, code: str) -> None:
        """A file could not be fetched."""
        self._metrics.add("sftp_files_total", result=code)
