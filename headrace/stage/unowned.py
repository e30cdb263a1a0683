"""Notices partitions that nobody of the group has, which Kafka itself does not.

A static member that is killed after it gave a partition away, and before its group was told, is back within its
session with what it had by then: Kafka starts no new round, and the partition stays without an owner until one comes
for another reason. Seen on Apache Kafka 4.3.1, classic protocol, cooperative assignment. Source: KIP-345, KIP-429.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import confluent_kafka
from confluent_kafka import ConsumerGroupState

from headrace.errors import HeadraceError
from headrace.kafka.clients import Cluster
from headrace.topics import Topic

LOOK_SECONDS = 15.0
ANSWER_SECONDS = 10.0
LONGEST_WAIT = 600.0

Place = tuple[str, int]


class Unowned:
    """Looks at the group from time to time, without waiting for answers.

    Parameters:
        topics: what the group reads, by name on the wire.
    """

    def __init__(self, cluster: Cluster, group: str, topics: Mapping[str, Topic]) -> None:
        self._cluster = cluster
        self._group = group
        self._topics = topics
        self._admin: Any = None
        self._asked: Future[Any] | None = None
        self._seen: frozenset[Place] = frozenset()
        self._next = 0.0
        self._times = 0

    def found(self, now: float) -> frozenset[Place]:
        """Partitions without an owner in two looks in a row at a group that is at rest; `now` in monotonic seconds."""
        if self._asked is not None:
            if not self._asked.done():
                return frozenset()
            answer, self._asked = self._asked, None
            before, self._seen = self._seen, self._unowned(answer)
            both = before & self._seen
            if both:
                # Where that does not help, it must not be done all the time.
                self._times += 1
                self._next = now + min(LOOK_SECONDS * 2**self._times, LONGEST_WAIT)
                self._seen = frozenset()
            elif not self._seen:
                self._times = 0
            return both
        if now >= self._next:
            self._next = now + LOOK_SECONDS
            if self._admin is None:
                self._admin = self._cluster.admin()
            asked = self._admin.describe_consumer_groups([self._group], request_timeout=ANSWER_SECONDS)
            self._asked = asked[self._group]
        return frozenset()

    def _unowned(self, answer: Future[Any]) -> frozenset[Place]:
        try:
            group = answer.result()
            if group.state != ConsumerGroupState.STABLE:
                return frozenset()
            wanted = {(name, number) for name, topic in self._topics.items() for number in self._numbers(topic)}
        except (confluent_kafka.KafkaException, HeadraceError):
            return frozenset()
        owned = {
            (place.topic, place.partition)
            for member in group.members
            for place in (member.assignment.topic_partitions if member.assignment is not None else ())
        }
        return frozenset(wanted - owned)

    def _numbers(self, topic: Topic) -> range:
        return range(self._cluster.partitions(topic))
