"""Metrics and health of a source of one folder."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from headrace.observe.health import Health
from headrace.observe.metrics import MetricEntry, Metrics
from headrace_files.sending.jobs import Outcome, Result

if TYPE_CHECKING:
    from headrace_files.directory_source.service import DirectorySource

METRICS = (
    MetricEntry("source_files_total", "counter", "Files whose sending came to an end.", ("result",)),
    MetricEntry("source_bytes_total", "counter", "Bytes of files that the broker has acknowledged."),
    MetricEntry("source_active", "gauge", "Files that are being sent."),
    MetricEntry("source_waiting", "gauge", "Files that are seen and not sent yet, as they settle or for their turn."),
    MetricEntry("source_settled", "gauge", "Files whose present version is on the log."),
    MetricEntry("source_unreadable", "gauge", "Files that cannot be read."),
    MetricEntry("source_given_up", "gauge", "Files that a receiver failed too often; they are not offered again."),
)

EVERY = 1.0  # seconds


class Reporting:
    """Keeps `metrics` and `health` up to date. Bytes acknowledged are its progress, files being sent its lag."""

    def __init__(self, metrics: Metrics, health: Health) -> None:
        self._metrics = metrics
        self._health = health
        self._next = 0.0
        self._bytes = 0
        self._ended = 0
        for result in Result:
            metrics.add("source_files_total", 0, result=result.value)

    def turn(self, source: DirectorySource) -> None:
        """The source's loop has come round."""
        now = time.monotonic()
        if now < self._next or source.sender is None:
            return
        self._next = now + EVERY
        acknowledged = source.sender.bytes_acknowledged
        self._metrics.add("source_bytes_total", acknowledged - self._bytes)
        self._bytes = acknowledged
        active = len(source.tree.active)
        self._metrics.set("source_active", active)
        self._metrics.set("source_waiting", source.tree.waiting)
        self._metrics.set("source_settled", source.tree.settled)
        self._metrics.set("source_unreadable", len(source.tree.unreadable))
        self._metrics.set("source_given_up", len(source.tree.given_up))
        self._health.beat()
        self._health.progress("files", acknowledged + self._ended, active)

    def ended(self, outcome: Outcome) -> None:
        """A file has come to its end."""
        self._ended += 1
        self._metrics.add("source_files_total", result=outcome.result.value)
