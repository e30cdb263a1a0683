"""Up to where every dead letter is decided, kept as the committed offsets of a group of its own.

It only saves reading: what is decided, the decisions themselves tell. While a redrive is under way the metadata says
since when (`began=<milliseconds since the epoch>`): a run that finds it there knows that another one was killed, and
from when on it may have published what it could no longer record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import confluent_kafka

from headrace.deadletters.decisions import group_name
from headrace.kafka.clients import METADATA_SECONDS, Cluster, KafkaUnreachable
from headrace.topics import DEAD_LETTERS

_METADATA = re.compile(r"^began=(\d{1,19})$")


@dataclass(frozen=True)
class Standing:
    """`lows`: per partition the offset before which everything is decided; `began`: since when a run is unfinished."""

    lows: Mapping[int, int]
    began: int | None


class Progress:
    """Reads and commits the standing. A context manager. Raises KafkaUnreachable."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._topic = cluster.topic_name(DEAD_LETTERS)
        self._consumer = cluster.consumer(group_name(cluster))

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def read(self) -> Standing:
        """Where it stands; partitions that nothing is known of begin at 0."""
        count = self._cluster.partitions(DEAD_LETTERS, self._consumer)
        wanted = [confluent_kafka.TopicPartition(self._topic, number) for number in range(count)]
        try:
            found = self._consumer.committed(wanted, timeout=METADATA_SECONDS)
        except confluent_kafka.KafkaException as error:
            raise self._unreachable(error) from error
        began = [int(match[1]) for part in found if (match := _METADATA.match(part.metadata or ""))]
        lows = {part.partition: max(0, part.offset) for part in found}
        return Standing(lows, min(began) if began else None)

    def commit(self, standing: Standing) -> None:
        """Write where it stands, and wait for the answer."""
        metadata = "" if standing.began is None else f"began={standing.began}"
        offsets = [
            confluent_kafka.TopicPartition(self._topic, number, offset, metadata=metadata)
            for number, offset in standing.lows.items()
        ]
        try:
            answers = self._consumer.commit(offsets=offsets, asynchronous=False)
        except confluent_kafka.KafkaException as error:
            raise self._unreachable(error) from error
        problem = next((part.error for part in answers if part.error is not None), None)
        if problem is not None:
            raise self._unreachable(confluent_kafka.KafkaException(problem))

    def _unreachable(self, error: confluent_kafka.KafkaException) -> KafkaUnreachable:
        return KafkaUnreachable(bootstrap=self._cluster.bootstrap, problem=error.args[0].str())
