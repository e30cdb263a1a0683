"""The jobs topic: commands written by the command line, books by the ledger, each the last word on its key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import confluent_kafka

from headrace.codec import avro
from headrace.errors import PoisonError
from headrace.events import Command, Job, Progress
from headrace.jobs.ids import is_job_id
from headrace.kafka.clients import Cluster, KafkaUnreachable
from headrace.kafka.following import Follower
from headrace.kafka.raw import RawMessage
from headrace.kafka.reading import read_now
from headrace.keys import decode_key, encode_key, partition_of
from headrace.topics import JOBS

FLUSH_SECONDS = 10.0

_KINDS: tuple[type[Command | Job], ...] = (Command, Job)
_LAST_PART: dict[type[Command | Job], str] = {Command: "command", Job: "books"}


class JobWriter:
    """Puts commands and books on the log."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._producer = cluster.producer()
        self._name = cluster.topic_name(JOBS)
        self._count = cluster.partitions(JOBS, self._producer)
        self._refusal: str | None = None
        self._last = -1

    def write(self, *events: Command | Job) -> int:
        """Put events on the log, wait until they are there, and return the offset of the last.

        Raises KafkaUnreachable if that takes more than 10 s.
        """
        for event in events:
            self._producer.produce(
                self._name,
                avro.encode(event),
                encode_key((event.job, _LAST_PART[type(event)])),
                partition=partition_of(event.job, self._count),
                headers=[("hr-job", event.job.encode())],
                on_delivery=self._delivered,
            )
        left = self._producer.flush(FLUSH_SECONDS)
        refusal, self._refusal = self._refusal, None
        if left or refusal:
            raise KafkaUnreachable(
                bootstrap=self._cluster.bootstrap, problem=refusal or f"a word on a job is not on the log ({left})"
            )
        return self._last

    def _delivered(self, error: confluent_kafka.KafkaError | None, message: Any) -> None:
        if error is not None:
            self._refusal = error.str()
        else:
            self._last = message.offset()


@dataclass(frozen=True, slots=True)
class Word:
    """One event of the jobs topic, with its offset and the broker's time in microseconds since the epoch."""

    event: Command | Job
    offset: int
    at: int


@dataclass(slots=True)
class Known:
    """The last words on one job."""

    command: Word | None = None
    books: Word | None = None

    def take(self, word: Word) -> None:
        """A newer word."""
        if isinstance(word.event, Command):
            self.command = word
        else:
            self.books = word

    @property
    def job(self) -> Job | None:
        """The books."""
        return self.books.event if self.books is not None and isinstance(self.books.event, Job) else None

    @property
    def wanted(self) -> Command | None:
        """The command."""
        return self.command.event if self.command is not None and isinstance(self.command.event, Command) else None


def words(messages: Iterable[RawMessage]) -> Iterator[Word]:
    """What messages of the jobs topic say; what cannot be read, or stands under another job's key, says nothing."""
    for message in messages:
        try:
            key = decode_key(message.key())
            event = avro.decode_one_of(message.value() or b"", _KINDS)
        except PoisonError:
            continue
        if key == (event.job, _LAST_PART[type(event)]) and is_job_id(event.job):
            yield Word(event, message.offset(), message.timestamp()[1] * 1000)


def progress_in(messages: Iterable[RawMessage]) -> Iterator[Progress]:
    """What stages say of how far they are; what cannot be read says nothing."""
    for message in messages:
        try:
            key = decode_key(message.key())
            if key[1:2] != ("progress",):
                continue
            event = avro.decode(message.value() or b"", Progress)
        except PoisonError:
            continue
        if key == (event.job, "progress", event.group, event.item):
            yield event


def read_jobs(cluster: Cluster, job: str | None = None) -> dict[str, Known]:
    """The last words on every job that is on the log now, or on one.

    Raises MissingTopic or KafkaUnreachable.
    """
    starts = None if job is None else {partition_of(job, cluster.partitions(JOBS)): 0}
    found: dict[str, Known] = {}
    for batch in read_now(cluster, JOBS, starts=starts):
        for word in words(batch):
            if job is None or word.event.job == job:
                found.setdefault(word.event.job, Known()).take(word)
    return found


def follower(cluster: Cluster, job: str | None = None) -> Follower:
    """Follows the jobs topic, or the partition that one job is in.

    Raises MissingTopic or KafkaUnreachable.
    """
    only = None if job is None else frozenset({(JOBS.name, partition_of(job, cluster.partitions(JOBS)))})
    return Follower(cluster, (JOBS,), only=only)
