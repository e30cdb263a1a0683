"""Where every group stands in every topic, asked of the brokers: committed offsets, the ends of the logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple

import confluent_kafka
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import OffsetSpec

from headrace.kafka.clients import METADATA_SECONDS, Cluster, KafkaUnreachable
from headrace.kafka.following import Place
from headrace.proof.groups import REQUEST_SECONDS
from headrace.stage.offsets import parse_metadata
from headrace.topics import Topic


class Committed(NamedTuple):
    """What a group has committed: `low`, the first offset of anything unfinished, and the position it has reached."""

    low: int
    position: int


@dataclass(frozen=True)
class Positions:
    """One look at a cluster, places named by the catalogue; `begins` and `ends` are the first and the next offset."""

    groups: Mapping[str, Mapping[Place, Committed]]
    begins: Mapping[Place, int]
    ends: Mapping[Place, int]

    def lag(self, group: str, topic: str | None = None) -> int:
        """Messages from a group's positions to the ends, of all topics that it reads, or of one."""
        return sum(
            max(0, self.ends.get(place, 0) - max(committed.position, self.begins.get(place, 0)))
            for place, committed in self.groups[group].items()
            if topic in (None, place[0])
        )


class Surveyor:
    """Looks at one cluster, again and again.

    Parameters:
        topics: those to look at; the ones that do not exist are left out.
        leave_out: groups that keep marks of their own as committed offsets, not positions.
    """

    def __init__(self, cluster: Cluster, topics: Sequence[Topic], leave_out: frozenset[str] = frozenset()) -> None:
        self._cluster = cluster
        self._admin = cluster.admin()
        self._names = {cluster.topic_name(topic): topic.name for topic in topics}
        self._leave_out = leave_out

    def look(self) -> Positions:
        """Where everything stands now.

        Raises KafkaUnreachable if the cluster does not answer within 10 s.
        """
        try:
            # Groups first: an end that is older than a position would give a lag below nothing.
            groups = self._groups()
            places = self._places()
            begins = self._offsets(places, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
            ends = self._offsets(places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        except (confluent_kafka.KafkaException, TimeoutError) as error:
            raise _unreachable(self._cluster, error) from error
        return Positions(groups, begins, ends)

    def offsets_at(self, milliseconds: Mapping[str, int]) -> dict[Place, int]:
        """By place the first offset that is not older than a time of its topic; the end where all is older.

        Parameters:
            milliseconds: since the epoch, by the topic's name in the catalogue.

        Raises KafkaUnreachable.
        """
        try:
            places = [place for place in self._places() if self._names[place[0]] in milliseconds]
            times = {place: OffsetSpec.for_timestamp(milliseconds[self._names[place[0]]]) for place in places}
            found = self._each_offset(times)
            ends = self._offsets(places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        except (confluent_kafka.KafkaException, TimeoutError) as error:
            raise _unreachable(self._cluster, error) from error
        return {place: offset if offset >= 0 else ends[place] for place, offset in found.items()}

    def _places(self) -> list[Place]:
        """Every partition by its name on the wire."""
        known = self._admin.list_topics(timeout=METADATA_SECONDS).topics
        return [(name, number) for name in self._names if name in known for number in known[name].partitions]

    def _groups(self) -> dict[str, dict[Place, Committed]]:
        listed = self._admin.list_consumer_groups(request_timeout=REQUEST_SECONDS).result()
        prefix = self._cluster.settings.prefix
        names = sorted({group.group_id for group in listed.valid if group.group_id.startswith(prefix)})
        # One request a group: the admin interface takes no more. All are on their way before the first is awaited.
        asked: list[tuple[str, Future[Any]]] = []
        for name in names:
            if name not in self._leave_out:
                request = [ConsumerGroupTopicPartitions(name)]
                answers = self._admin.list_consumer_group_offsets(request, request_timeout=REQUEST_SECONDS)
                asked.append((name, answers[name]))
        found: dict[str, dict[Place, Committed]] = {}
        for name, future in asked:
            committed = {
                (self._names[part.topic], part.partition): _committed(part)
                for part in future.result().topic_partitions
                if part.topic in self._names and part.offset >= 0
            }
            if committed:
                found[name] = committed
        return found

    def _offsets(self, places: Iterable[Place], spec: OffsetSpec) -> dict[Place, int]:
        return self._each_offset(dict.fromkeys(places, spec))

    def _each_offset(self, specs: Mapping[Place, OffsetSpec]) -> dict[Place, int]:
        parts = {confluent_kafka.TopicPartition(*place): spec for place, spec in specs.items()}
        answers = self._admin.list_offsets(parts, request_timeout=REQUEST_SECONDS) if parts else {}
        return {
            (self._names[part.topic], part.partition): future.result(REQUEST_SECONDS).offset
            for part, future in answers.items()
        }


def _committed(part: confluent_kafka.TopicPartition) -> Committed:
    marks = parse_metadata(part.metadata)
    return Committed(part.offset, part.offset if marks is None else max(part.offset, marks[0]))


def _unreachable(cluster: Cluster, error: Exception) -> KafkaUnreachable:
    problem = error.args[0] if error.args else None
    told = problem.str() if isinstance(problem, confluent_kafka.KafkaError) else "no answer in time"
    return KafkaUnreachable(bootstrap=cluster.bootstrap, problem=told)
