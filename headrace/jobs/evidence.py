"""The evidence of one job, read from the log whole: what the ledger keeps, and the names of the files as well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from headrace.codec import avro
from headrace.errors import PoisonError
from headrace.events import Covers, FileEvent, Outcome, UploadAck
from headrace.jobs.books import FileBooks
from headrace.kafka.clients import Cluster
from headrace.kafka.raw import RawMessage
from headrace.kafka.reading import read_now
from headrace.keys import decode_key
from headrace.receipts import worst
from headrace.topics import FILES, UPLOAD_ACKS

EvidenceType = TypeVar("EvidenceType", FileEvent, UploadAck)


class Place(NamedTuple):
    """Whose receipt of which version a key of the receipts topic stands for."""

    group: str
    file: bytes


class Told(NamedTuple):
    """Where somebody outside tells of lines of a file, and how many of them have which outcome."""

    where: str
    counts: Mapping[Outcome, int]


@dataclass(slots=True)
class Evidence:
    """The books of a job with the last event of each version, and why groups did not take some.

    `told` has, by group and version, what receipts of some of its lines say on where more is told, by item.
    """

    books: FileBooks = field(default_factory=FileBooks)
    versions: dict[bytes, FileEvent] = field(default_factory=dict)
    codes: dict[tuple[bytes, str], str] = field(default_factory=dict)
    told: dict[Place, dict[str, Told]] = field(default_factory=dict)

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
        if evidence.file is not None and evidence.where is not None and evidence.item != evidence.file.hex():
            counts: Counter[Outcome] = Counter()
            for each in evidence.covers:
                counts[each.outcome] += each.count
            place = self.told.setdefault(Place(evidence.group, evidence.file), {})
            place[evidence.item] = Told(evidence.where, counts)


def job_of(message: RawMessage) -> str | None:
    """The job that a message says it belongs to, in its header."""
    for name, value in message.headers() or ():
        if name == "hr-job" and value:
            return value.decode("utf-8", "replace")
    return None


def place_of(message: RawMessage) -> Place | None:
    """What the key of a receipt names; None if that is no version of a file."""
    try:
        _, group, item = decode_key(message.key())
        return Place(group, bytes.fromhex(item))
    except (PoisonError, ValueError):
        return None


def evidence_in(message: RawMessage, kind: type[EvidenceType]) -> EvidenceType | None:
    """The event in a message; None if it cannot be read, or names another job than the message's header."""
    job = job_of(message)
    try:
        evidence = avro.decode(message.value() or b"", kind)
    except PoisonError:
        return None
    # The receipt of a dead letter knows its job from the header alone.
    return evidence if job is None or evidence.job in (None, job) else None


def is_good(ack: UploadAck) -> bool:
    """Whether a receipt says that the version is where it should be."""
    return bool(ack.covers) and worst(ack.covers).outcome in ("delivered", "unchanged")


def read_evidence(cluster: Cluster, job: str) -> Evidence:
    """Everything that the log says now of one job.

    A version that several jobs sent at once has one receipt in each group, under the name of one of them: a good one
    counts for all.

    Raises MissingTopic or KafkaUnreachable.
    """
    found = Evidence()
    for batch in read_now(cluster, FILES):
        for message in batch:
            event = evidence_in(message, FileEvent) if job_of(message) == job else None
            if event is not None:
                found.take(event)
    for batch in read_now(cluster, UPLOAD_ACKS):
        for message in batch:
            own = job_of(message) == job
            place = place_of(message)
            shared = place is not None and place.file in found.versions
            if not message.value():
                if place is not None and shared:
                    found.books.withdraw(*place)
            elif own or shared:
                ack = evidence_in(message, UploadAck)
                if ack is not None and (own or is_good(ack)):
                    found.take(ack)
    return found
