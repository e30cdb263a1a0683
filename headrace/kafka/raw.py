"""The shape of a consumed message, as librdkafka fills it: the client's own annotations allow None everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import confluent_kafka


class RawMessage(Protocol):
    """A message, or in its place an error that the client reports."""

    def topic(self) -> str:
        """Name on the wire."""

    def partition(self) -> int:
        """Partition number."""

    def offset(self) -> int:
        """Offset in the partition."""

    def key(self) -> bytes | None:
        """Key as it came."""

    def value(self) -> bytes | None:
        """Value as it came; None is a tombstone."""

    def headers(self) -> list[tuple[str, bytes]] | None:
        """Headers as they came."""

    def timestamp(self) -> tuple[int, int]:
        """Kind of time stamp, and milliseconds since the epoch."""

    def error(self) -> confluent_kafka.KafkaError | None:
        """Not None if this is no message but a report."""

    def __len__(self) -> int:
        """Bytes of the value."""


def consume(consumer: confluent_kafka.Consumer, count: int, seconds: float) -> Sequence[RawMessage]:
    """Up to `count` messages; waits up to `seconds` until there are that many."""
    return cast("Sequence[RawMessage]", consumer.consume(count, seconds))
