"""Reading dead letters: what the headers of each say, without holding its bytes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Final

import confluent_kafka
import msgspec

from headrace import deadletter
from headrace.errors import HeadraceError
from headrace.kafka.clients import Cluster
from headrace.kafka.raw import RawMessage
from headrace.kafka.reading import read_now
from headrace.keys import decode_key
from headrace.topics import DEAD_LETTERS

Id = tuple[int, int]
"""Partition and offset of a dead letter in the dead-letters topic; people write it `2:17`."""

NOT_OURS: Final = "not-a-dead-letter"
"""The reason of a message on the topic that lacks the headers of a dead letter."""


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """One dead letter without its bytes.

    `partition` and `offset` are its own place; `topic` (on the wire), `source_partition`, `source_offset` where the
    message was read; times are milliseconds since the epoch; `size` is bytes of the value.
    """

    partition: int
    offset: int
    at: int
    key: bytes | None
    size: int
    topic: str
    source_partition: int
    source_offset: int
    source_time: int
    group: str
    stage: str
    code: str
    message: str
    attempt: int
    first_failed: int
    item: str
    carried: tuple[tuple[str, bytes], ...]

    @property
    def id(self) -> Id:
        """Its place in the dead-letters topic."""
        return self.partition, self.offset

    @property
    def name(self) -> str:
        """How people name it."""
        return f"{self.partition}:{self.offset}"

    @property
    def job(self) -> str | None:
        """The job that it belongs to."""
        return next((value.decode("utf-8", "replace") for name, value in self.carried if name == "hr-job"), None)

    @property
    def path(self) -> str | None:
        """The first part of its key, None where there is none that can be read."""
        try:
            return decode_key(self.key)[0]
        except HeadraceError:
            return None


def letter_of(raw: RawMessage) -> DeadLetter:
    """What the headers say; those that are missing or damaged make it a letter that cannot be re-driven."""
    headers = {name: value for name, value in raw.headers() or () if value is not None}

    def text(name: str) -> str:
        return sys.intern(headers.get(name, b"").decode("utf-8", "replace"))

    def number(name: str, default: int = -1) -> int:
        found = headers.get(name, b"")
        return int(found) if found.isdigit() and len(found) < 20 else default

    return DeadLetter(
        partition=raw.partition(),
        offset=raw.offset(),
        at=raw.timestamp()[1],
        key=raw.key(),
        size=len(raw),
        topic=text("dlq-topic"),
        source_partition=number("dlq-partition"),
        source_offset=number("dlq-offset"),
        source_time=number("dlq-timestamp"),
        group=text("dlq-service"),
        stage=text("dlq-stage"),
        code=text("dlq-error") or NOT_OURS,
        message=text("dlq-message"),
        attempt=number(deadletter.ATTEMPT, 1),
        first_failed=number(deadletter.FIRST_FAILED),
        item=headers.get("dlq-item", b"").decode("utf-8", "replace"),
        carried=tuple((name, headers[name]) for name in deadletter.CARRIED if name in headers),
    )


def read_letters(
    cluster: Cluster, starts: Mapping[int, int] | None = None, consumer: confluent_kafka.Consumer | None = None
) -> Iterator[tuple[DeadLetter, RawMessage]]:
    """Every dead letter that is there now, with its message, in log order per partition.

    Parameters:
        starts: first offset per partition; None: all, from the beginning.

    Raises KafkaUnreachable, MissingTopic.
    """
    for batch in read_now(cluster, DEAD_LETTERS, starts=starts, consumer=consumer):
        for raw in batch:
            yield letter_of(raw), raw
