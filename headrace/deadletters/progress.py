"""Up to where every dead letter is decided, kept as the committed offsets of a group of its own.

It only saves reading: what is decided, the decisions themselves tell. While a redrive is under way the metadata says
since when (`began=<milliseconds since the epoch>`): a run that finds it there knows that another one was killed, and
from when on it may have published what it could no longer record.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import confluent_kafka

from headrace.deadletters.decisions import group_name
from headrace.kafka.clients import METADATA_SECONDS, Cluster, GroupRefused, KafkaUnreachable
from headrace.topics import DEAD_LETTERS

PATIENCE_SECONDS = 30.0
_NOT_YET = frozenset(
    {
        confluent_kafka.KafkaError.NOT_COORDINATOR,
        confluent_kafka.KafkaError.COORDINATOR_NOT_AVAILABLE,
        confluent_kafka.KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    }
)
_METADATA = re.compile(r"^began=(\d{1,19})$")


@dataclass(frozen=True)
class Standing:
    """`lows`: per partition the offset before which everything is decided; `began`: since when a run is unfinished."""

    lows: Mapping[int, int]
    began: int | None


class Progress:
    """Reads and commits the standing. A context manager. Raises KafkaUnreachable, GroupRefused."""

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
        found = self._patiently(lambda: self._consumer.committed(wanted, timeout=METADATA_SECONDS))
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
        self._patiently(lambda: self._consumer.commit(offsets=offsets, asynchronous=False))

    def _patiently(
        self, ask: Callable[[], list[confluent_kafka.TopicPartition]]
    ) -> list[confluent_kafka.TopicPartition]:
        """Ask the group's coordinator. One that is just being chosen, or reads its log, is asked again for a while."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answers = ask()
                problem = next((part.error for part in answers if part.error is not None), None)
            except confluent_kafka.KafkaException as error:
                problem = error.args[0]
            if problem is None:
                return answers
            self._see_whether_refused()
            if problem.code() not in _NOT_YET or time.monotonic() > deadline:
                raise KafkaUnreachable(bootstrap=self._cluster.bootstrap, problem=problem.str())
            time.sleep(0.1)

    def _see_whether_refused(self) -> None:
        """The client asks for the coordinator for ever, whatever the answer; why, it says where messages come."""
        report = self._consumer.poll(0)
        error = None if report is None else report.error()
        if error is not None and error.code() == confluent_kafka.KafkaError.GROUP_AUTHORIZATION_FAILED:
            raise GroupRefused(group=group_name(self._cluster))
