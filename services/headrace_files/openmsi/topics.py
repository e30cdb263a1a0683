"""The topic of theirs, and one of ours that remembers what was sent to it."""

from __future__ import annotations

from datetime import timedelta

from headrace.errors import ConfigError
from headrace.events import FileEvent
from headrace.kafka.clients import Cluster, MissingTopic
from headrace.topics import Topic

SENT = Topic(
    "state.openmsi-sent",
    purpose="what was sent to topics of OpenMSIStream, which itself keeps no such record on the log",
    key="path id / file id",
    values=(FileEvent,),
    cleanup="compact,delete",
    retention=timedelta(days=400),
)
TOPICS = (SENT,)


class NoForeignTopic(ConfigError):
    """The topic {topic} of OpenMSIStream does not exist on this Kafka. Create it, or correct the name."""

    code = "no-foreign-topic"


def foreign(topic: str) -> Topic:
    """The topic of OpenMSIStream of that name."""
    return Topic(
        topic, purpose="files in chunks, as OpenMSIStream sends them", key="theirs", framing="foreign", item="offset"
    )


def see_that_it_exists(cluster: Cluster, topic: Topic) -> None:
    """Look whether their topic is there.

    Raises NoForeignTopic, KafkaUnreachable.
    """
    try:
        cluster.partitions(topic)
    except MissingTopic as error:
        raise NoForeignTopic(topic=topic.name) from error
