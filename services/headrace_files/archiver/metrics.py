"""Metrics that only the archiver has."""

from __future__ import annotations

from headrace.observe.metrics import MetricEntry

METRICS = (
    MetricEntry("archiver_store_unwell", "gauge", "1 while nothing but probes is sent to the object store."),
    MetricEntry("archiver_buffer_bytes", "gauge", "Bytes of open files in memory."),
    MetricEntry("archiver_spool_bytes", "gauge", "Bytes of open files on disk, for which memory has no room."),
    MetricEntry(
        "archiver_objects_total", "counter", "Versions that are in the bucket, written or found there.", ("how",)
    ),
)
