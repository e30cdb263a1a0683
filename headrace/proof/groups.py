"""Which groups must have every file of a topic: those with a committed position on it."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import confluent_kafka
from confluent_kafka import ConsumerGroupTopicPartitions

from headrace.config import Sources
from headrace.errors import ConfigError
from headrace.families import StageEntry, configured, stages
from headrace.kafka.clients import Cluster, KafkaUnreachable
from headrace.topics import CHUNK_TOPICS

REQUEST_SECONDS = 10.0

Committed = dict[str, dict[str, dict[int, int]]]


class UnknownSink(ConfigError):
    """No group of the sink {sink} has read files or left a receipt. Known groups: {known}."""

    code = "unknown-sink"


def positions(cluster: Cluster) -> Committed:
    """The committed offset per topic of chunks and partition, for every group under our prefix that has one.

    What is committed is the low-water mark: everything before it is done (design section 4).

    Raises KafkaUnreachable if the cluster does not answer within 10 s.
    """
    admin = cluster.admin()
    topics = {cluster.topic_name(topic): topic.name for topic in CHUNK_TOPICS.values()}
    found: Committed = {}
    try:
        listed = admin.list_consumer_groups(request_timeout=REQUEST_SECONDS).result()
        names = [group.group_id for group in listed.valid if group.group_id.startswith(cluster.settings.prefix)]
        # One request a group: the admin interface takes no more. All are on their way before the first is awaited.
        futures: list[tuple[str, Any]] = []
        for name in names:
            request = [ConsumerGroupTopicPartitions(name)]
            futures.append((name, admin.list_consumer_group_offsets(request, request_timeout=REQUEST_SECONDS)[name]))
        for name, future in futures:
            for place in future.result().topic_partitions:
                if place.topic in topics and place.offset >= 0:
                    of_group = found.setdefault(name, {})
                    of_group.setdefault(topics[place.topic], {})[place.partition] = place.offset
    except confluent_kafka.KafkaException as error:
        raise KafkaUnreachable(bootstrap=cluster.bootstrap, problem=error.args[0].str()) from error
    return found


def belongs_to(group: str, sink: str, prefix: str) -> bool:
    """Whether `group` serves `sink`, which may be a sink's name, `service.sink`, or the group's full name."""
    return group in (sink, prefix + sink) or group.removeprefix(prefix).partition(".")[2] == sink


def takers_of_others(sources: Sources | None) -> frozenset[str]:
    """The groups, without prefix, of which settings on this machine say that they take files that name no dataset."""
    found = set()
    for stage, values in () if sources is None else configured(sources, _of_datasets()):
        sink = getattr(values, "sink", None)
        if stage.datasets_unless is not None and getattr(values, stage.datasets_unless):
            found.add(f"{stage.name}.{sink}")
    return frozenset(found)


def of_datasets_only(groups: Iterable[str], prefix: str, others: Container[str] = ()) -> frozenset[str]:
    """Those of some groups whose service has to do with files of datasets only.

    Parameters:
        others: see `takers_of_others`.
    """
    services = {stage.name for stage in _of_datasets()}
    short = ((group, group.removeprefix(prefix)) for group in groups)
    return frozenset(group for group, name in short if name.partition(".")[0] in services and name not in others)


def _of_datasets() -> list[StageEntry]:
    return [stage for stage in stages().values() if stage.datasets_unless is not None]
