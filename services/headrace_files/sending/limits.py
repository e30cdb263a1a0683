"""What the broker allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import confluent_kafka
from confluent_kafka.admin import ConfigResource

from headrace.kafka.clients import METADATA_SECONDS, Cluster, KafkaUnreachable, MissingTopic
from headrace.topics import Topic


def largest_messages(cluster: Cluster, topics: Sequence[Topic]) -> dict[str, int]:
    """`max.message.bytes` by topic name (without prefix), as it is on the broker; it holds for a batch as a whole.

    Raises MissingTopic, or KafkaUnreachable if nobody answers within 10 s.
    """
    names = {topic.name: ConfigResource(ConfigResource.Type.TOPIC, cluster.topic_name(topic)) for topic in topics}
    admin = cluster.admin()  # kept until the answer is there, which its end would cancel
    answers = admin.describe_configs(list(names.values()), request_timeout=METADATA_SECONDS)
    found = {}
    for topic in topics:
        try:
            settings: Any = answers[names[topic.name]].result()
        except confluent_kafka.KafkaException as error:
            failure = error.args[0]
            if failure.code() == confluent_kafka.KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise MissingTopic(topic=cluster.topic_name(topic)) from error
            raise KafkaUnreachable(bootstrap=cluster.bootstrap, problem=failure.str()) from error
        found[topic.name] = int(settings["max.message.bytes"].value)
    return found
