"""The evidence of one job, read from the log whole: what the ledger keeps, and the names of the files as well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from headrace.codec import avro
from headrace.errors import PoisonError
from headrace.events import Covers, FileEvent, UploadAck
from headrace.jobs.books import FileBooks
from headrace.kafka.clients import Cluster
from headrace.kafka.raw import RawMessage
from headrace.kafka.reading import read_now
from headrace.receipts import worst
from headrace.topics import FILES, UPLOAD_ACKS


@dataclass(slots=True)
class Evidence:
    """The books of a job with the last event of each version, and why groups did not take some."""

    books: FileBooks = field(default_factory=FileBooks)
    versions: dict[bytes, FileEvent] = field(default_factory=dict)
    codes: dict[tuple[bytes, str], str] = field(default_factory=dict)

    def take(self, evidence: FileEvent | UploadAck) -> None:
        """Take what a source or a group said."""
        if isinstance(evidence, FileEvent):
            self.books.take_event(evidence)
            known = self.versions.get(evidence.file)
            if known is None or evidence.state != "sending":
                self.versions[evidence.file] = evidence
            return
        self.books.take_receipt(evidence)
        cover: Covers | None = worst(evidence.covers) if evidence.covers else None
        if evidence.file is not None and cover is not None and cover.code:
            self.codes[evidence.file, evidence.group] = cover.code


def job_of(message: RawMessage) -> str | None:
    """The job that a message says it belongs to, in its header."""
    for name, value in message.headers() or ():
        if name == "hr-job" and value:
            return value.decode("utf-8", "replace")
    return None


def evidence_in(message: RawMessage, kind: type[FileEvent | UploadAck]) -> FileEvent | UploadAck | None:
    """The event in a message that names a job; None if there is none, or it names another job than its header."""
    job = job_of(message)
    try:
        evidence = avro.decode(message.value() or b"", kind)
    except PoisonError:
        return None
    # The receipt of a dead letter knows its job from the header alone.
    return evidence if job is not None and evidence.job in (None, job) else None


def read_evidence(cluster: Cluster, job: str) -> Evidence:
    """Everything that the log says now of one job.

    Raises MissingTopic or KafkaUnreachable.
    """
    found = Evidence()
    for topic, kind in ((FILES, FileEvent), (UPLOAD_ACKS, UploadAck)):
        for message in _of_job(job, read_now(cluster, topic)):
            evidence = evidence_in(message, kind)
            if evidence is not None:
                found.take(evidence)
    return found


def _of_job(job: str, batches: Iterable[Iterable[RawMessage]]) -> Iterator[RawMessage]:
    return (message for batch in batches for message in batch if job_of(message) == job)
