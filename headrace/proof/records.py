"""Whether the records that a receipt names are still on their topic: `kafka://topic?source=...`, and lines as sets.

A topic is read whole, once, up to what was there at that moment; of each file only the set of its lines is kept. That
its lines are there is what is told: a receipt has the hash of the file, not of its records.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pyroaring import BitMap64

from headrace.codec.avro import HEADER_BYTES, MARKER, MalformedEvent, marks_of
from headrace.codec.records import origin
from headrace.errors import HeadraceError
from headrace.events import EndMarker
from headrace.kafka.clients import Cluster, MissingTopic
from headrace.kafka.raw import RawMessage
from headrace.kafka.reading import read_now, watermarks
from headrace.proof.destinations import Check
from headrace.proof.evidence import Received
from headrace.topics import Topic

TOPICS = "records."
"""What the names of topics of records begin with; no other is read because a receipt names it."""
LONGEST_PUBLICATION = 3600.0
"""Seconds from the first record of a file to its receipt at most: a topic that has forgotten the time in between has
forgotten some of the file, perhaps."""


@dataclass(slots=True)
class _Found:
    """What a topic holds: the lines of each file, and up to when, in seconds since the epoch, it has deleted."""

    lines: Mapping[bytes, BitMap64]
    forgotten: float = -math.inf


@dataclass(slots=True)
class RecordPlaces:
    """Looks for the records of files. May be asked from several threads."""

    cluster: Cluster
    _topics: dict[str, _Found] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, file: bytes, received: Received) -> Check:
        """Whether every line that a receipt calls delivered is on the topic that it names."""
        name = urlsplit(received.where or "").netloc.removeprefix(self.cluster.settings.prefix)
        if not name.startswith(TOPICS):
            return Check("unreadable", "this is no topic of records here")
        if received.lines is None:
            return Check("unreadable", "the receipt names no lines")
        try:
            with self._lock:
                if name not in self._topics:
                    self._topics[name] = self._read(Topic(name, "", "", framing="records"))
                found = self._topics[name]
        except MissingTopic:
            return Check("gone", "its topic is not there")
        except HeadraceError as error:
            return Check("unreadable", str(error.details.get("problem", error)))
        return _compared(BitMap64.deserialize(received.lines), file, received, found)

    def _read(self, topic: Topic) -> _Found:
        """Raises MissingTopic, KafkaUnreachable."""
        lines: defaultdict[bytes, BitMap64] = defaultdict(BitMap64)
        oldest: dict[int, float] = {}
        for batch in read_now(self.cluster, topic):
            for message in batch:
                oldest.setdefault(message.partition(), message.timestamp()[1] / 1000)
            for file, found in _lines_in(batch).items():
                lines[file].update(found)
        # What deletes takes the oldest: a partition that begins later than at 0 has forgotten all before its first.
        consumer = self.cluster.consumer(None)
        try:
            wire = self.cluster.topic_name(topic)
            begun = [
                number
                for number in range(self.cluster.partitions(topic, consumer))
                if watermarks(self.cluster, consumer, wire, number)[0] > 0
            ]
        finally:
            consumer.close()
        return _Found(lines, max((oldest.get(number, math.inf) for number in begun), default=-math.inf))


def _lines_in(batch: Sequence[RawMessage]) -> Mapping[bytes, list[int]]:
    """The lines of each file among some messages; end markers are left out, and what is no record."""
    ends = marks_of(EndMarker)
    lines: defaultdict[bytes, list[int]] = defaultdict(list)
    for message in batch:
        raw = message.value() or b""
        if raw[:2] != MARKER or raw[2:HEADER_BYTES] in ends:
            continue
        try:
            file, line = origin(raw)
        except MalformedEvent:
            continue
        if line >= 0:
            lines[file].append(line)
    return lines


def _compared(wanted: BitMap64, file: bytes, received: Received, found: _Found) -> Check:
    missing = wanted - found.lines.get(file, BitMap64())
    if not missing:
        return Check("intact")
    if found.forgotten > received.at / 1e6 - LONGEST_PUBLICATION:
        return Check("expired", f"{len(missing)} of {len(wanted)} records are older than what their topic keeps")
    if len(missing) == len(wanted):
        return Check("gone", f"none of {len(wanted)} records is there")
    return Check("differs", f"{len(missing)} of {len(wanted)} records are not there, first that of line {missing[0]}")
