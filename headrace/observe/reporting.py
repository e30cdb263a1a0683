"""The middleware that turns what happens around a stage into metrics and health."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from headrace.errors import HeadraceError
from headrace.events import UploadAck
from headrace.observe.health import Health
from headrace.observe.metrics import Metrics
from headrace.stage.contract import Message, Partition
from headrace.stage.middleware import Middleware
from headrace.stage.offsets import Mark, Track

_GAUGES = ("position", "low", "lag", "open_items", "paused")


class Reporting(Middleware):
    """Keeps `metrics` and `health` up to date."""

    def __init__(self, metrics: Metrics, health: Health) -> None:
        self._metrics = metrics
        self._health = health
        self._began = 0.0

    def before_handle(self, batch: Sequence[Message]) -> None:
        """A batch is about to be handled."""
        self._began = time.perf_counter()
        self._metrics.add("batches_total")
        self._metrics.add("messages_total", len(batch))

    def after_handle(self, batch: Sequence[Message], error: Exception | None) -> None:  # noqa: ARG002 - the hook's
        """A batch was handled, or raised `error`."""
        self._metrics.observe("batch_seconds", time.perf_counter() - self._began)
        if error is not None:
            code = error.code if isinstance(error, HeadraceError) else type(error).__name__
            self._metrics.add("failed_batches_total", code=code)

    def after_receipt(self, ack: UploadAck) -> None:
        """A receipt is on the log."""
        for cover in ack.covers:
            self._metrics.add("receipts_total", outcome=cover.outcome)

    def after_dead_letter(self, message_partition: Partition, error: HeadraceError) -> None:
        """A message was put aside."""
        self._metrics.add("dead_letters_total", topic=message_partition.topic, code=error.code)

    def after_orphan(self, partition: Partition) -> None:
        """A message was skipped since its item is not open."""
        self._metrics.add("orphans_total", topic=partition.topic)

    def after_assign(self, partitions: Sequence[Partition]) -> None:
        """Partitions are ours."""
        for partition in partitions:
            self._metrics.set("paused", 0, **_labels(partition))
        self._health.ready()

    def after_revoke(self, partitions: Sequence[Partition], lost: bool) -> None:  # noqa: ARG002 - the hook's
        """Partitions are ours no longer."""
        for partition in partitions:
            self._health.forget(_name(partition))
            for gauge in _GAUGES:
                self._metrics.forget(gauge, partition.topic, str(partition.number))

    def after_pause(self, partitions: Sequence[Partition], seconds: float, reason: str) -> None:
        """Nothing will be fetched from `partitions` for a while."""
        for partition in partitions:
            self._metrics.set("paused", 1, **_labels(partition))
            self._health.paused(_name(partition), seconds, reason)

    def after_resume(self, partitions: Sequence[Partition]) -> None:
        """Fetching goes on."""
        for partition in partitions:
            self._metrics.set("paused", 0, **_labels(partition))
            self._health.resumed(_name(partition))

    def after_commit(self, marks: dict[Partition, Mark]) -> None:
        """The coordinator has taken these marks."""
        self._metrics.add("commits_total", len(marks))
        for partition, mark in marks.items():
            self._metrics.set("low", mark.low, **_labels(partition))

    def every_second(self, tracks: Sequence[Track], lag: Callable[[Track], int | None]) -> None:
        """Look at where each partition stands."""
        self._health.beat()
        for track in tracks:
            behind = lag(track)
            labels = _labels(track.partition)
            self._metrics.set("position", track.position, **labels)
            self._metrics.set("open_items", track.open_items, **labels)
            if behind is not None:
                self._metrics.set("lag", behind, **labels)
            self._health.progress(_name(track.partition), track.position, behind)


def _labels(partition: Partition) -> dict[str, str]:
    return {"topic": partition.topic, "partition": str(partition.number)}


def _name(partition: Partition) -> str:
    return f"{partition.topic}/{partition.number}"
