"""One file becomes records: verified, surveyed, published, closed by end markers. All of it in the worker's thread.

Nothing is published before the whole file has been read once. A file that is published again after a death sends its
lines again; key and content make that harmless. Source: design section 3, "Records".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import confluent_kafka
from pyroaring import BitMap64

from headrace import deadletter
from headrace.codec import avro
from headrace.datasets.encoding import prefix, zigzag
from headrace.datasets.errors import Shrunk
from headrace.datasets.rows import BadRow
from headrace.datasets.selection import RESEND_HEADER
from headrace.datasets.survey import records, survey
from headrace.errors import FatalError, PermanentError, TransientError
from headrace.events import Covers, EndMarker
from headrace.kafka.clients import Cluster
from headrace.keys import encode_key, murmur2
from headrace.stage import kill
from headrace.topics import CHUNK_TOPICS, DEAD_LETTERS
from headrace_files.csv_fanout.arriving import Arriving
from headrace_files.csv_fanout.earlier import EarlierFiles, place

LINES_OF_A_MARKER = 1 << 23
"""Lines that one end marker spans at most: 1 MiB of bits."""
LARGEST_COVERS = 900 * 1024
"""Bytes of line sets in a receipt, which must fit into a message."""
ROWS_BETWEEN_LOOKS = 2000
LINES_AT_ONCE = 50_000
PATIENCE = 0.05
MOST_IN_HAND = 20_000

_PURGED = frozenset({confluent_kafka.KafkaError._PURGE_QUEUE, confluent_kafka.KafkaError._PURGE_INFLIGHT})  # noqa: SLF001 - their only names


class NotPublished(FatalError):
    """A message to {topic} was refused for good: {problem}; the process starts again from its committed offset."""

    code = "not-published"


class HashMismatch(PermanentError):
    """The file does not have the hash that its sender computed; it is asked for again."""

    code = "hash-mismatch"


class BooksTooLarge(PermanentError):
    """The numbers of the bad lines do not fit into a receipt: {bad} bad rows, too many; nothing was published."""

    code = "books-too-large"


class Cancelled(Exception):
    """The file is not ours any more, or the service stops."""


@dataclass(frozen=True, slots=True)
class Published:
    """The records of a file are on the log: what a receipt says of its lines."""

    covers: list[Covers]
    where: str | None
    alg: str
    hash: bytes
    good: int
    bad: int


class Publisher:
    """Publishes files, one after the other.

    Parameters:
        may_act: the zombie guard; asked before anything is published, and often while it is.
        stopping: whether the service is told to stop.
        allow_shrink: whether a file may have far fewer rows than the last one.
        limit: bytes that an archive may hold.
    """

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        stage: str,
        may_act: Callable[[], bool],
        stopping: Callable[[], bool],
        *,
        allow_shrink: bool,
        limit: int,
    ) -> None:
        self._cluster = cluster
        self._group = group
        self._stage = stage
        self._may_act = may_act
        self._stopping = stopping
        self._allow_shrink = allow_shrink
        self._limit = limit
        self._earlier = EarlierFiles(cluster, group)
        self._failure: NotPublished | None = None
        # Reports of deliveries would double what a record costs; only failures are told, an empty queue is success.
        self._producer = cluster.producer(
            {
                "on_delivery": self._delivered,
                "delivery.report.only.error": True,
                # What a process that fell asleep had in hand still comes when it wakes, so it has little.
                "queue.buffering.max.messages": MOST_IN_HAND,
                # Batches of hundreds of records, not of tens: less than half the work for Kafka. A flush does not wait.
                "linger.ms": 50,
            }
        )

    def publish(self, arriving: Arriving) -> Published:
        """Make records of a file that is complete.

        Raises PermanentError if it is refused, HashMismatch if it is not what was sent, Cancelled, FatalError.
        """
        close = arriving.close
        if close is None or close.alg is None:
            raise ValueError("only complete files are published")
        digest = arriving.digest()
        if digest != close.hash:
            raise HashMismatch
        dataset = arriving.dataset

        def look(_lines: int = 0) -> None:
            self._look(arriving)

        found = survey(dataset, arriving.content, self._limit, look)
        topic = self._cluster.topic_name(dataset.topic)
        partial = arriving.selection.partial
        if not partial:
            arriving.rows_total = found.rows
        if not self._allow_shrink and not partial:
            self._compare(arriving, topic, found.rows)
        kill.point("csv_fanout.after-spool")
        try:
            partitions, bad = self._send_rows(arriving, topic)
            good: BitMap64 = BitMap64()
            for lines in partitions:
                good |= lines
            arriving.rows = len(good) + sum(map(len, bad.values()))
            covers = _covers(good, bad)
            self._drain(arriving)
            kill.point("csv_fanout.before-end-markers")
            self._send_markers(arriving, topic, partitions, len(good))
            self._drain(arriving)
            kill.point("csv_fanout.after-end-markers-before-receipt")
        except Cancelled:
            self._producer.purge(in_flight=False)
            raise
        # What later dumps are compared with is a whole one.
        where = None if partial else place(topic, arriving.frame.source)
        return Published(covers, where, close.alg, digest, len(good), sum(len(each) for each in bad.values()))

    def close(self) -> None:
        """Let go of the connections; what is under way is sent again by the next process."""
        self._producer.purge()
        self._producer.flush(1.0)

    def _look(self, arriving: Arriving) -> None:
        if arriving.cancelled or self._stopping():
            raise Cancelled
        if self._failure is not None:
            raise self._failure

    def _guard(self, arriving: Arriving) -> None:
        """Wait until this process is surely still a member of its group, and there is room for more records."""
        self._cluster.room.wait(lambda: self._look(arriving))
        self._look(arriving)
        while not self._may_act():
            time.sleep(PATIENCE)
            self._look(arriving)

    def _compare(self, arriving: Arriving, topic: str, rows: int) -> None:
        share = arriving.dataset.declaration.rules.shrink
        if share is None:
            return
        while True:
            try:
                before = self._earlier.rows(topic, arriving.frame.source, arriving.file)
                break
            except TransientError as error:
                time.sleep(min(error.retry_after, 1.0))
                self._look(arriving)
        if before is not None and rows < before * (1 - share):
            raise Shrunk(rows=rows, before=before, share=share)

    def _send_rows(self, arriving: Arriving, topic: str) -> tuple[list[BitMap64], dict[str, BitMap64]]:
        """Send records and dead letters; the lines of each partition, and the bad ones by reason."""
        dataset = arriving.dataset
        count = self._cluster.partitions(dataset.topic)
        lines: list[BitMap64] = [BitMap64() for _ in range(count)]
        waiting: list[list[int]] = [[] for _ in range(count)]
        bad: dict[str, BitMap64] = {}
        begin = prefix(dataset.header, arriving.frame.job, arriving.file)
        produce = self._producer.produce
        due, looked = 1, 0
        headers = _headers(arriving)
        rows = records(dataset, arriving.content, self._limit)
        for row in arriving.selection.rows(rows) if arriving.selection.partial else rows:
            due -= 1
            if not due:
                due = ROWS_BETWEEN_LOOKS
                arriving.rows, looked = looked, looked + ROWS_BETWEEN_LOOKS
                self._guard(arriving)
                self._producer.poll(0)
                kill.point("csv_fanout.in-the-middle-of-publishing")
            if isinstance(row, BadRow):
                bad.setdefault(row.error.code, BitMap64()).add(row.line)
                self._send_dead_letter(arriving, row)
                continue
            line, key, body = row
            number = (murmur2(key) & 0x7FFFFFFF) % count
            value = begin + zigzag(line) + body
            try:
                if headers is None:
                    produce(topic, value, key, number)
                else:
                    produce(topic, value, key, number, headers=headers)  # type: ignore[arg-type]
            except BufferError:
                self._insist(arriving, topic, value, key, number, headers)
            mine = waiting[number]
            mine.append(line)
            if len(mine) >= LINES_AT_ONCE:
                lines[number].update(mine)
                mine.clear()
        for number, rest in enumerate(waiting):
            lines[number].update(rest)
        return lines, bad

    def _send_dead_letter(self, arriving: Arriving, row: BadRow) -> None:
        first = arriving.first
        headers = deadletter.headers(
            topic=self._cluster.topic_name(CHUNK_TOPICS[first.partition.topic]),
            partition=first.partition.number,
            offset=first.offset,
            timestamp=first.time,
            service=self._group,
            stage=self._stage,
            error=row.error,
            item=f"{arriving.item}/{row.line}",
            original=first.headers,
            job=arriving.frame.job,
        )
        number = first.partition.number % self._cluster.partitions(DEAD_LETTERS)
        self._insist(arriving, self._cluster.topic_name(DEAD_LETTERS), row.raw, first.raw_key, number, headers)

    def _send_markers(self, arriving: Arriving, topic: str, partitions: list[BitMap64], total: int) -> None:
        """Say in each partition which lines of the file it holds."""
        key = encode_key((arriving.item,))
        known = dict(arriving.first.headers)
        carried = [(name, known[name]) for name in deadletter.CARRIED if known.get(name)]
        carried += _headers(arriving) or []
        self._guard(arriving)
        for number, lines in enumerate(partitions):
            pieces = _pieces(lines)
            for part, piece in enumerate(pieces):
                marker = EndMarker(
                    job=arriving.frame.job, file=arriving.file, dataset=arriving.dataset.name, lines=_serialized(piece),
                    count=len(piece), part=part, parts=len(pieces), total=total, source=arriving.frame.source,
                    path=arriving.frame.path, at=time.time_ns() // 1000,
                )  # fmt: skip
                self._insist(arriving, topic, avro.encode(marker), key, number, carried)

    def _insist(
        self,
        arriving: Arriving,
        topic: str,
        value: bytes,
        key: bytes | None,
        number: int,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> None:
        """Hand a message over, waiting for room in the producer's queue."""
        while True:
            try:
                self._producer.produce(topic, value, key, number, headers=headers)  # type: ignore[arg-type]
                return
            except BufferError:
                self._producer.poll(PATIENCE)
                self._guard(arriving)

    def _drain(self, arriving: Arriving) -> None:
        """Wait until everything that was handed over is on the log."""
        while len(self._producer):
            self._producer.flush(PATIENCE)
            self._look(arriving)
        self._look(arriving)

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None and error.code() not in _PURGED and self._failure is None:
            self._failure = NotPublished(topic=message.topic() if message is not None else "?", problem=error.str())


def _covers(good: BitMap64, bad: dict[str, BitMap64]) -> list[Covers]:
    """What the receipt says of the lines.

    Raises BooksTooLarge.
    """
    covers = [Covers(outcome="delivered", lines=_serialized(good), count=len(good))]
    covers += [
        Covers(outcome="dead_lettered", lines=_serialized(lines), count=len(lines), code=code)
        for code, lines in sorted(bad.items())
    ]
    if sum(len(each.lines or b"") for each in covers) > LARGEST_COVERS:
        raise BooksTooLarge(bad=sum(len(lines) for lines in bad.values()))
    return covers


def _headers(arriving: Arriving) -> list[tuple[str, bytes]] | None:
    """The headers of the records; they have none, but for those that are to be delivered once more."""
    return [(RESEND_HEADER, b"true")] if arriving.selection.resend else None


def _serialized(lines: BitMap64) -> bytes:
    lines.run_optimize()
    return bytes(lines.serialize())


def _pieces(lines: BitMap64) -> list[BitMap64]:
    """The lines in pieces that fit into a message each; one, even if it is empty."""
    if not lines or lines.max() < LINES_OF_A_MARKER:
        return [lines]
    pieces = []
    for start in range(0, lines.max() + 1, LINES_OF_A_MARKER):
        piece: BitMap64 = BitMap64()
        piece.add_range(start, start + LINES_OF_A_MARKER)
        piece &= lines
        pieces.append(piece)
    return pieces
