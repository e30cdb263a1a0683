"""The ledger: reads commands, announcements and receipts whole, like tables, and writes the books of jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import structlog

from headrace.errors import TransientError
from headrace.events import FileEvent, UploadAck
from headrace.jobs.evidence import evidence_in, is_good, job_of, place_of
from headrace.jobs.log import JobWriter, follower, words
from headrace.kafka.clients import Cluster
from headrace.kafka.following import Follower, Place
from headrace.kafka.insisting import insist
from headrace.kafka.raw import RawMessage
from headrace.kafka.reading import offsets_at, read_now, watermarks
from headrace.observe.metrics import MetricEntry
from headrace.topics import FILES, JOBS, UPLOAD_ACKS, Topic
from headrace_ops.ledger.ledger import Ledger
from headrace_ops.ledger.settings import LedgerSettings

if TYPE_CHECKING:
    from headrace.families import Host
    from headrace.observe.health import Health
    from headrace.observe.metrics import Metrics

PATIENCE = 0.2
"""Seconds to wait for evidence; also how often the commands are looked at."""
BEFORE_THE_START = 60_000
"""Milliseconds that evidence is looked for before a job's first word, which may have come onto the log later."""
EVIDENCE: tuple[Topic, ...] = (FILES, UPLOAD_ACKS)
PART = "evidence"

METRICS = (
    MetricEntry("jobs_open", "gauge", "Jobs whose books may still change."),
    MetricEntry("jobs_files", "gauge", "Versions of files in memory, of all open jobs."),
    MetricEntry("jobs_written_total", "counter", "Entries written to the jobs topic.", ("state",)),
    MetricEntry("jobs_read_again_total", "counter", "Jobs whose evidence was read again from the log."),
)
"""What only the ledger has."""


log = structlog.get_logger(__name__)


class LedgerService:
    """Keeps the books of all jobs. Several at once do no harm: books are sets, and only news is written."""

    name: ClassVar[str] = "ledger"
    writes: ClassVar[Sequence[Topic]] = (JOBS,)

    def __init__(self, settings: LedgerSettings, cluster: Cluster, health: Health, metrics: Metrics) -> None:
        self._settings = settings
        self._cluster = cluster
        self._health = health
        self._metrics = metrics

    def run(self, stop: threading.Event) -> None:
        """Keep books until `stop` is set.

        Raises MissingTopic.
        """
        commands = insist(stop, lambda: follower(self._cluster))
        evidence = insist(stop, lambda: Follower(self._cluster, EVIDENCE))
        writer = insist(stop, lambda: JobWriter(self._cluster))
        if commands is None or evidence is None or writer is None:
            return
        try:
            ledger = Ledger(frozenset(evidence.positions))
            while not commands.caught_up and not stop.is_set():
                self._take_words(ledger, commands, PATIENCE)
            ends = insist(stop, lambda: _ends(self._cluster))
            if ends is not None:
                ledger.begin(ends)
                self._follow(ledger, commands, evidence, writer, stop)
        finally:
            commands.close()
            evidence.close()

    def _follow(
        self, ledger: Ledger, commands: Follower, evidence: Follower, writer: JobWriter, stop: threading.Event
    ) -> None:
        log.info("keeping books", open=len(ledger.open))
        next_write = 0.0
        while not stop.is_set():
            batch = evidence.poll(PATIENCE)
            # After the evidence was fetched: the command was on the log before anything was sent for it.
            self._take_words(ledger, commands, 0)
            self._take_evidence(ledger, evidence, batch)
            self._health.beat()
            self._health.progress(PART, sum(evidence.positions.values()), 0 if evidence.caught_up else 1)
            if not evidence.caught_up:
                continue
            now = time.monotonic()
            try:
                if ledger.to_rebuild:
                    self._rebuild(ledger)
                if now >= next_write:
                    next_write = now + self._settings.write_every.total_seconds()
                    self._write(ledger, evidence.positions, writer)
                    if jobs := ledger.to_look_for(now):
                        self._look(ledger, jobs)
            except TransientError as error:
                log.warning("waiting for Kafka", problem=str(error))
                stop.wait(error.retry_after)

    def _take_words(self, ledger: Ledger, commands: Follower, seconds: float) -> None:
        for word in words(commands.poll(seconds)):
            ledger.take_word(word)

    def _take_evidence(self, ledger: Ledger, evidence: Follower, batch: Iterable[RawMessage]) -> None:
        for message in batch:
            job = job_of(message)
            place = evidence.place(message)
            if job is not None and ledger.wants(job, place, message.offset()):
                _take(ledger, job, place[0], message)
            if place[0] == UPLOAD_ACKS.name and len(ledger.open) > (job in ledger.open):
                self._take_of_others(ledger, job, message)

    def _take_of_others(self, ledger: Ledger, job: str | None, message: RawMessage) -> None:
        """A receipt under another job's name, or none, may be of a version that an open job sent as well."""
        place = place_of(message)
        if place is None:
            return
        if not message.value():
            ledger.withdraw(ledger.open, *place)
            return
        for other in ledger.sharing(place.file, job):
            ack = evidence_in(message, UploadAck)
            if ack is not None:
                ledger.take(other, ack)

    def _write(self, ledger: Ledger, positions: Mapping[Place, int], writer: JobWriter) -> None:
        entries = list(ledger.entries(positions, time.time_ns() // 1000))
        try:
            if entries:
                writer.write(*entries)
        except TransientError:
            ledger.not_written(entry.job for entry in entries)
            raise
        for entry in entries:
            self._metrics.add("jobs_written_total", state=entry.state)
            log.debug("books written", job=entry.job, state=entry.state)
        for job in ledger.close():
            log.info("job done", job=job)
        self._metrics.set("jobs_open", len(ledger.open))
        self._metrics.set("jobs_files", ledger.files)

    def _rebuild(self, ledger: Ledger) -> None:
        """Read the evidence of jobs again that something new turned up for after they were done."""
        jobs = ledger.begin_rebuild()
        log.info("reading again", jobs=len(jobs))
        self._metrics.add("jobs_read_again_total", len(jobs))
        since = _before(jobs.values())
        try:
            for topic in EVIDENCE:
                for message in self._read(topic, since):
                    job = job_of(message)
                    if job in jobs:
                        _take(ledger, job, topic.name, message)
                    elif topic is UPLOAD_ACKS and not message.value() and (place := place_of(message)):
                        ledger.withdraw(jobs, *place)
        except TransientError:
            ledger.to_rebuild.update(jobs)
            raise

    def _look(self, ledger: Ledger, jobs: Mapping[str, int]) -> None:
        """Look for receipts of versions that another job sent at the same time: a group gives only one."""
        log.debug("looking for receipts", jobs=len(jobs))
        for message in self._read(UPLOAD_ACKS, _before(jobs.values())):
            place = place_of(message)
            for job in ledger.sharing(place.file, job_of(message)) if place is not None else ():
                ack = evidence_in(message, UploadAck)
                if ack is not None and is_good(ack):
                    ledger.take(job, ack)

    def _read(self, topic: Topic, since: int) -> Iterator[RawMessage]:
        """What is on a topic now, from a time on, in milliseconds since the epoch."""
        batches = read_now(self._cluster, topic, starts=offsets_at(self._cluster, topic, since))
        return (message for batch in batches for message in batch)


def _before(starts: Iterable[int]) -> int:
    """Milliseconds since the epoch, somewhat before the first of some starts in microseconds."""
    return max(0, min(starts) // 1000 - BEFORE_THE_START)


def _take(ledger: Ledger, job: str, topic: str, message: RawMessage) -> None:
    evidence = evidence_in(message, FileEvent) if topic == FILES.name else evidence_in(message, UploadAck)
    if evidence is not None:
        ledger.take(job, evidence, message.timestamp()[1] * 1000)


def _ends(cluster: Cluster) -> dict[Place, int]:
    consumer = cluster.consumer(None)
    try:
        return {
            (topic.name, number): watermarks(cluster, consumer, cluster.topic_name(topic), number)[1]
            for topic in EVIDENCE
            for number in range(cluster.partitions(topic, consumer))
        }
    finally:
        consumer.close()


def service(settings: LedgerSettings, host: Host) -> LedgerService:
    """The ledger as its settings say."""
    return LedgerService(settings, host.cluster, host.health, host.metrics)
