"""Producers, consumers and admin clients for one cluster.

The properties here were measured; sources: design section 4 (groups, traps found by trying) and section 6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import confluent_kafka
from confluent_kafka.admin import AdminClient

from headrace.codec import avro
from headrace.config import KafkaSettings
from headrace.errors import ConfigError
from headrace.kafka.clientlog import client_logger
from headrace.kafka.connecting import KafkaUnreachable, client, reach
from headrace.kafka.room import Room
from headrace.topics import DEAD_LETTERS, LARGEST_BATCH, Topic

if TYPE_CHECKING:
    from headrace.kafka.registry import Registry

__all__ = [
    "METADATA_SECONDS",
    "Cluster",
    "GroupRefused",
    "KafkaUnreachable",
    "MissingTopic",
    "Properties",
    "TopicRefused",
]

Properties = Mapping[str, Any]
METADATA_SECONDS = 10.0


class MissingTopic(ConfigError):
    """The topic {topic} does not exist on this Kafka. Create the topics with: headrace topics apply."""

    code = "missing-topic"


class TopicRefused(ConfigError):
    """Kafka does not let this user read or write the topic {topic}. The access lists that it needs: headrace topics acl."""  # noqa: E501

    code = "topic-refused"


class GroupRefused(ConfigError):
    """Kafka does not let this user be a member of the group {group}. The access lists that it needs: headrace topics acl."""  # noqa: E501

    code = "group-refused"


class Cluster:
    """One Kafka, with our prefix: makes clients, and knows the wire names of topics and groups.

    Parameters:
        room: the disk that it writes to, if that is one of this machine.
    """

    def __init__(self, settings: KafkaSettings, room: Room | None = None) -> None:
        if settings.bootstrap is None:
            raise ConfigError(
                setting="kafka.bootstrap",
                problem="no Kafka is given",
                remedy="Set it, or start: headrace broker start.",
            )
        self.settings = settings
        self.bootstrap = settings.bootstrap
        self.room = room or Room()
        self._counts: dict[str, int] = {}
        self._registry: Registry | None = None
        if settings.registry is not None:
            from headrace.kafka.registry import Registry  # takes its time to import, and few have one

            self._registry = Registry.from_settings(settings)

    def look_at_registry(self) -> None:
        """Return if the schema registry answers, or none is set; changes nothing there. Raises as `announce`."""
        if self._registry is not None:
            self._registry.look()

    def announce(self, schemas: Iterable[Mapping[str, Any]]) -> None:
        """See that the schema registry, if one is set, has these schemas.

        Raises RegistryUnreachable, or the ConfigError that tells what must be set otherwise.
        """
        if self._registry is not None:
            self._registry.announce(schemas)

    def topic_name(self, topic: Topic) -> str:
        """The name on the wire."""
        return topic.name_on(self.settings.prefix)

    def group_name(self, service: str, sink: str) -> str:
        """The consumer group of one service writing to one sink."""
        return f"{self.settings.prefix}{service}.{sink}"

    def producer(self, properties: Properties | None = None) -> confluent_kafka.Producer:
        """An idempotent producer that never times a message out: what fails for good ends the process."""
        self.announce(avro.shipped())
        return client(
            self._registry.producer(self.settings.prefix) if self._registry else confluent_kafka.Producer,
            self._base()
            | {
                "enable.idempotence": True,
                "message.timeout.ms": 0,
                "message.max.bytes": DEAD_LETTERS.max_message_bytes,
                "partitioner": "murmur2_random",
                "linger.ms": 2,
                "batch.size": 1024 * 1024,
                "queue.buffering.max.kbytes": 64 * 1024,
                "queue.buffering.max.messages": 100_000,
            }
            | self.settings.client_properties()
            | dict(properties or {}),
        )

    def consumer(
        self, group: str | None, properties: Properties | None = None, **callbacks: Callable[..., None]
    ) -> confluent_kafka.Consumer:
        """A consumer that commits nothing by itself; without a `group` it is for `assign` only."""
        own: dict[str, Any] = {
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": 10_000,
            "heartbeat.interval.ms": 2_000,
            # A full prefetch queue sleeps a whole second otherwise: 65 against 390 MB/s.
            "fetch.queue.backoff.ms": 10,
            "queued.max.messages.kbytes": 32 * 1024,
            # Small messages take several times their bytes; these are a second's worth of each partition.
            "queued.min.messages": 5_000,
            "fetch.wait.max.ms": 100,
            "fetch.message.max.bytes": LARGEST_BATCH,
        }
        settings = self._base() | own | self.settings.client_properties() | dict(properties or {}) | callbacks
        # librdkafka wants a group name even of a consumer that never joins one.
        return client(
            self._registry.consumer(self.settings.prefix) if self._registry else confluent_kafka.Consumer,
            settings | {"group.id": group or f"{self.settings.prefix}reader"},
        )

    def admin(self) -> AdminClient:
        """An admin client."""
        return client(AdminClient, self._base() | self.settings.client_properties())

    def reach(self) -> None:
        """Return once Kafka answers; within seconds it is clear that it does not, and why.

        Raises KafkaUnreachable, or the ConfigError that tells what must be set otherwise.
        """
        reach(self._base() | self.settings.client_properties())

    def partitions(self, topic: Topic, asking: Any = None) -> int:
        """How many partitions `topic` has; asked once.

        Raises MissingTopic if it does not exist, TopicRefused if this user may not see it, KafkaUnreachable if nobody
        answers within 10 s.
        """
        name = self.topic_name(topic)
        if name not in self._counts:
            try:
                found = (asking or self.admin()).list_topics(name, timeout=METADATA_SECONDS).topics[name]
            except confluent_kafka.KafkaException as error:
                raise KafkaUnreachable(bootstrap=self.bootstrap, problem=error.args[0].str()) from error
            if found.error is not None and found.error.code() == confluent_kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise TopicRefused(topic=name)
            if found.error is not None or not found.partitions:
                raise MissingTopic(topic=name)
            self._counts[name] = len(found.partitions)
        return self._counts[name]

    def _base(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.bootstrap,
            "client.id": "headrace",
            "log_level": 4,
            "logger": client_logger(),
            # The first wait, of which half also lies between a new client's first two connections: each took 50 ms.
            "reconnect.backoff.ms": 20,
        }
