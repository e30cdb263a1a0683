"""Metrics of one service, in a registry of its own, for Prometheus. All names begin with `headrace_`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

PREFIX = "headrace_"


@dataclass(frozen=True)
class MetricEntry:
    """One metric: its name without the prefix, its kind, what it says with its unit, and its labels.

    Labels never hold file names, keys or anything personal.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


LOOP_METRICS = (
    MetricEntry("position", "gauge", "Offset of the next message to handle.", ("topic", "partition")),
    MetricEntry("low", "gauge", "First offset of any unfinished item: what is committed.", ("topic", "partition")),
    MetricEntry("lag", "gauge", "Messages from the position to the end of the partition.", ("topic", "partition")),
    MetricEntry("open_items", "gauge", "Items begun and not finished.", ("topic", "partition")),
    MetricEntry("paused", "gauge", "1 while a partition is paused.", ("topic", "partition")),
    MetricEntry("messages_total", "counter", "Messages handed to the stage, repeated ones again."),
    MetricEntry("batches_total", "counter", "Batches handed to the stage."),
    MetricEntry("batch_seconds", "histogram", "Time the stage took for a batch, in seconds."),
    MetricEntry("failed_batches_total", "counter", "Batches that the stage could not handle.", ("code",)),
    MetricEntry("receipts_total", "counter", "Receipts on the log, repeated ones again.", ("outcome",)),
    MetricEntry("dead_letters_total", "counter", "Messages put aside.", ("topic", "code")),
    MetricEntry("orphans_total", "counter", "Messages skipped because their item is not open.", ("topic",)),
    MetricEntry("commits_total", "counter", "Commits of a partition that the coordinator took."),
)
"""What every service has that reads topics."""


class Metrics:
    """The metrics of one service, by the entries it is given; safe to use from any thread."""

    def __init__(self, entries: Iterable[MetricEntry] = LOOP_METRICS) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        kinds = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
        self._collectors: dict[str, Counter | Gauge | Histogram] = {
            entry.name: kinds[entry.kind](PREFIX + entry.name, entry.help, entry.labels, registry=self.registry)
            for entry in entries
        }

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Count up."""
        collector = self._labelled(name, labels)
        if isinstance(collector, Histogram):
            raise TypeError(f"{name} is a histogram; use observe")
        collector.inc(amount)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        collector = self._labelled(name, labels)
        if not isinstance(collector, Gauge):
            raise TypeError(f"{name} is no gauge")
        collector.set(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one value to a histogram."""
        collector = self._labelled(name, labels)
        if not isinstance(collector, Histogram):
            raise TypeError(f"{name} is no histogram")
        collector.observe(value)

    def forget(self, name: str, *values: str) -> None:
        """Show no longer what is not ours, such as a revoked partition; `values` of all labels in order."""
        try:
            self._collectors[name].remove(*values)
        except KeyError:
            # Never shown.
            pass

    def exposition(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)

    def _labelled(self, name: str, labels: dict[str, str]) -> Counter | Gauge | Histogram:
        collector = self._collectors[name]
        return collector.labels(**labels) if labels else collector
