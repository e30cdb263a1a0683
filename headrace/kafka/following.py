"""Following topics: everything from a given place on, and then what is added, without a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import confluent_kafka
import structlog

from headrace.kafka.clients import Cluster, TopicRefused
from headrace.kafka.raw import RawMessage, consume
from headrace.topics import Topic

BATCH = 2000

log = structlog.get_logger(__name__)

Place = tuple[str, int]
"""A topic's catalogue name and a partition number."""


class Follower:
    """Reads whole topics like tables: from the beginning, and then goes on. Commits nothing, shares with nobody.

    What retention took away before it was read is skipped. A topic that is made anew, or has lost its end, is read from
    its first message on: what is handed out then may have been handed out before. For one thread.

    Parameters:
        starts: first offset by place; places that are not named are read from their beginning.
        only: the only places to read; None: all partitions.

    Raises MissingTopic or KafkaUnreachable on creation.
    """

    def __init__(
        self,
        cluster: Cluster,
        topics: Sequence[Topic],
        *,
        starts: Mapping[Place, int] | None = None,
        only: frozenset[Place] | None = None,
    ) -> None:
        self._consumer = cluster.consumer(
            None,
            {
                "enable.partition.eof": True,
                "isolation.level": "read_uncommitted",
                # By itself the client would begin again without a word, and what it gives would look like doubles.
                "auto.offset.reset": "error",
                "queued.max.messages.kbytes": 8 * 1024,
            },
        )
        self._names = {cluster.topic_name(topic): topic.name for topic in topics}
        places = {
            (topic.name, number): cluster.topic_name(topic)
            for topic in topics
            for number in range(cluster.partitions(topic, self._consumer))
            if only is None or (topic.name, number) in only
        }
        given = starts or {}
        self._behind = set(places)
        self.positions: dict[Place, int] = {place: given.get(place, 0) for place in places}
        """The next offset to read by place: everything before it was handed out."""
        first = confluent_kafka.OFFSET_BEGINNING
        self._consumer.assign(
            [confluent_kafka.TopicPartition(wire, place[1], given.get(place, first)) for place, wire in places.items()]
        )

    @property
    def caught_up(self) -> bool:
        """Whether every partition was read to its end once."""
        return not self._behind

    def place(self, message: RawMessage) -> Place:
        """Where a message comes from."""
        return self._names[message.topic()], message.partition()

    def poll(self, seconds: float) -> list[RawMessage]:
        """The next messages, in log order per partition; none if there are none within `seconds`.

        Raises TopicRefused if this user may not read one of the topics.
        """
        batch = [*consume(self._consumer, 1, seconds), *consume(self._consumer, BATCH - 1, 0)]
        found = []
        for message in batch:
            error = message.error()
            if error is None:
                place = self.place(message)
                # The client may give a message twice, when it fetches from its last position again.
                if message.offset() >= self.positions[place]:
                    self.positions[place] = message.offset() + 1
                    found.append(message)
            elif error.code() == confluent_kafka.KafkaError._PARTITION_EOF:  # noqa: SLF001 - its only name
                place = self.place(message)
                # The last messages may be compacted away: then none bears the last offset.
                self.positions[place] = max(self.positions[place], message.offset())
                self._behind.discard(place)
            elif error.code() == confluent_kafka.KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - its only name
                self._begin_again(message)
            elif error.code() == confluent_kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise TopicRefused(topic=message.topic())
            else:
                log.warning("cannot read", topic=message.topic(), partition=message.partition(), problem=error.str())
        return found

    def _begin_again(self, message: RawMessage) -> None:
        place = self.place(message)
        log.warning("the log is not where it was, reading it from its first message on", topic=message.topic(),
                    partition=place[1], position=self.positions[place])  # fmt: skip
        self.positions[place] = 0
        first = confluent_kafka.TopicPartition(message.topic(), place[1], confluent_kafka.OFFSET_BEGINNING)
        # The client has stopped fetching this partition and refuses to seek in it: it is taken up anew.
        self._consumer.incremental_unassign([first])
        self._consumer.incremental_assign([first])

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()
