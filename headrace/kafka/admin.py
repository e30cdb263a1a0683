"""Create and describe topics: the catalogue on one side, a Kafka on the other, and the difference between them.

Nothing here changes the partition count of a topic that holds data: its keys would move. Source: design section 3.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import confluent_kafka
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from headrace.config import TopicSettings
from headrace.errors import ConfigError
from headrace.kafka.clients import METADATA_SECONDS, Cluster, KafkaUnreachable, MissingTopic
from headrace.topics import Topic

ADMIN_SECONDS = 30.0
SEGMENTS_KEPT = 8
"""In so many steps a topic forgets what is older than its retention: a message may stay an eighth longer."""
GROUPS_SECONDS = 5.0

_NO_LEADER_YET = frozenset(
    {
        confluent_kafka.KafkaError.LEADER_NOT_AVAILABLE,
        confluent_kafka.KafkaError.NOT_LEADER_FOR_PARTITION,
        confluent_kafka.KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)

_NO_COORDINATOR_YET = frozenset(
    {
        confluent_kafka.KafkaError.NOT_COORDINATOR,
        confluent_kafka.KafkaError.COORDINATOR_NOT_AVAILABLE,
        confluent_kafka.KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    }
)


class PartitionCountFixed(ConfigError):
    """The topic {topic} has {found} partitions and kafka.partitions says {wanted}, but {problem}. Way out: {remedy}."""

    code = "partition-count-fixed"


class AdminRefused(ConfigError):
    """Kafka at {bootstrap} refuses to {action} {topic}: {problem}."""

    code = "admin-refused"


class UnknownTopicSettings(ConfigError):
    """There are settings in [topics.{topic}], but no such topic. Known topics: {valid}."""

    code = "unknown-topic-settings"


@dataclass(frozen=True)
class TopicState:
    """A topic as it is: `messages` counts offsets between beginning and end, so compaction makes it an upper bound."""

    name: str
    partitions: int
    replication: int
    messages: int
    properties: Mapping[str, str]


@dataclass(frozen=True)
class Change:
    """What `apply` does to one topic: create it, give it more partitions, or set properties (old and new value)."""

    topic: str
    create: bool
    partitions: tuple[int, int] | None
    properties: Mapping[str, tuple[str | None, str]]


def wanted_properties(
    topic: Topic, replication: int, settings: Mapping[str, TopicSettings] | None = None
) -> dict[str, str]:
    """The topic's Kafka properties. `settings` are the operator's own, by catalogue name."""
    own = (settings or {}).get(topic.name, TopicSettings())
    retention = own.retention or topic.retention
    size = own.retention_size or topic.retention_bytes
    wanted = {
        "cleanup.policy": topic.cleanup,
        "retention.ms": "-1" if retention is None else str(int(retention.total_seconds() * 1000)),
        "retention.bytes": "-1" if size is None else str(size),
        "max.message.bytes": str(topic.max_message_bytes),
        "message.timestamp.type": "LogAppendTime" if topic.append_time else "CreateTime",
        # With three replicas one may be away and nothing acknowledged is ever on a single disk only.
        "min.insync.replicas": "2" if replication >= 3 else "1",
    }
    if retention is not None and topic.cleanup == "delete":
        # Kafka deletes whole segments, each when its last message is old enough; by default one is a week's.
        wanted["segment.ms"] = str(int(retention / SEGMENTS_KEPT / timedelta(milliseconds=1)))
    return wanted


def plan(
    cluster: Cluster, topics: Sequence[Topic], settings: Mapping[str, TopicSettings] | None = None
) -> list[Change]:
    """What has to change so that `topics` are as the catalogue and the settings say; empty if nothing.

    Raises PartitionCountFixed if a topic would have to move its keys, UnknownTopicSettings, KafkaUnreachable.
    """
    settings = settings or {}
    known = {topic.name for topic in topics}
    for name in settings:
        if name not in known:
            raise UnknownTopicSettings(topic=name, valid=", ".join(sorted(known)))
    wanted_count = cluster.settings.partitions
    found = describe(cluster, topics)
    changes = []
    for topic in topics:
        wire = cluster.topic_name(topic)
        state = found.get(topic.name)
        if state is None:
            changes.append(_creation(cluster, topic, settings))
            continue
        wanted = wanted_properties(topic, state.replication, settings)
        differing = {
            key: (state.properties.get(key), value)
            for key, value in wanted.items()
            if _normal(state.properties.get(key)) != _normal(value)
        }
        growth = None
        if state.partitions != wanted_count:
            _refuse_move(wire, state, wanted_count)
            growth = (state.partitions, wanted_count)
        if differing or growth:
            changes.append(Change(wire, False, growth, differing))
    return changes


def apply(cluster: Cluster, changes: Iterable[Change]) -> None:
    """Carry out what `plan` found.

    Raises AdminRefused with Kafka's own words if it does not agree, KafkaUnreachable if it does not answer.
    """
    admin = cluster.admin()
    changes = list(changes)
    for change in changes:
        if change.create:
            count = change.partitions[1] if change.partitions else cluster.settings.partitions
            config = {key: value for key, (_, value) in change.properties.items()}
            new = NewTopic(
                change.topic, num_partitions=count, replication_factor=cluster.settings.replication, config=config
            )
            _create(cluster, admin, new)
            continue
        if change.partitions:
            more = NewPartitions(change.topic, change.partitions[1])
            _await(cluster, admin.create_partitions([more], request_timeout=ADMIN_SECONDS), "widen", change.topic)
        if change.properties:
            entries = [
                ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                for key, (_, value) in change.properties.items()
            ]
            resource = ConfigResource(ResourceType.TOPIC, change.topic, incremental_configs=entries)
            answers = admin.incremental_alter_configs([resource], request_timeout=ADMIN_SECONDS)
            _await(cluster, answers, "alter", change.topic)
    _await_metadata(
        cluster, admin, {change.topic: change.partitions[1] if change.partitions else 1 for change in changes}
    )
    if any(change.create for change in changes):
        _await_groups(cluster, admin)


def create_missing(
    cluster: Cluster, topics: Sequence[Topic], settings: Mapping[str, TopicSettings] | None = None
) -> list[str]:
    """Create the topics that are not there, and change nothing else; returns their names."""
    existing = _metadata(cluster, cluster.admin())
    absent = [topic for topic in topics if cluster.topic_name(topic) not in existing]
    if not absent:
        return []
    changes = [_creation(cluster, topic, settings or {}) for topic in absent]
    apply(cluster, changes)
    return [change.topic for change in changes]


def missing(cluster: Cluster, topics: Iterable[Topic]) -> list[str]:
    """The wire names of those topics that do not exist.

    Raises TopicRefused for one that this user may not see, KafkaUnreachable.
    """
    existing = _metadata(cluster, cluster.admin())
    absent = []
    for topic in topics:
        if (name := cluster.topic_name(topic)) not in existing:
            try:
                cluster.partitions(topic)
            except MissingTopic:
                absent.append(name)
    return absent


def describe(cluster: Cluster, topics: Iterable[Topic]) -> dict[str, TopicState]:
    """Those of `topics` that exist, by catalogue name."""
    admin = cluster.admin()
    metadata = _metadata(cluster, admin)
    present = {topic.name: name for topic in topics if (name := cluster.topic_name(topic)) in metadata}
    if not present:
        return {}
    resources = {name: ConfigResource(ResourceType.TOPIC, wire) for name, wire in present.items()}
    answers = admin.describe_configs(list(resources.values()), request_timeout=ADMIN_SECONDS)
    sizes = _messages(cluster, admin, {wire: len(metadata[wire].partitions) for wire in present.values()})
    states = {}
    for name, wire in present.items():
        entries = _result(cluster, answers[resources[name]], "describe", wire)
        partitions = metadata[wire].partitions
        states[name] = TopicState(
            name=wire,
            partitions=len(partitions),
            replication=max(len(each.replicas) for each in partitions.values()),
            messages=sizes[wire],
            properties={key: entry.value for key, entry in entries.items() if entry.value is not None},
        )
    return states


def _metadata(cluster: Cluster, admin: AdminClient) -> Mapping[str, Any]:
    try:
        return dict(admin.list_topics(timeout=METADATA_SECONDS).topics)
    except confluent_kafka.KafkaException as error:
        raise KafkaUnreachable(bootstrap=cluster.bootstrap, problem=error.args[0].str()) from error


def _creation(cluster: Cluster, topic: Topic, settings: Mapping[str, TopicSettings]) -> Change:
    properties = wanted_properties(topic, cluster.settings.replication, settings)
    whole = {key: (None, value) for key, value in properties.items()}
    return Change(cluster.topic_name(topic), True, (0, cluster.settings.partitions), whole)


def _create(cluster: Cluster, admin: AdminClient, new: NewTopic) -> None:
    for future in admin.create_topics([new], request_timeout=ADMIN_SECONDS).values():
        try:
            _result(cluster, future, "create", new.topic)
        except AdminRefused as refusal:
            # Services that start together create the same topics.
            if refusal.details["code"] != confluent_kafka.KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def _await_metadata(cluster: Cluster, admin: AdminClient, counts: Mapping[str, int]) -> None:
    """See that the broker knows what the controller has written down a moment before.

    Parameters:
        counts: how many partitions each topic has now, at least.
    """
    deadline = time.monotonic() + ADMIN_SECONDS
    while True:
        known = _metadata(cluster, admin)
        absent = [name for name, count in counts.items() if name not in known or len(known[name].partitions) < count]
        if not absent:
            return
        if time.monotonic() > deadline:
            raise KafkaUnreachable(bootstrap=cluster.bootstrap, problem=f"{min(absent)} was changed but is not there")
        time.sleep(0.05)


def _await_groups(cluster: Cluster, admin: AdminClient) -> None:
    """See that Kafka has its own topic for the offsets of groups, which it creates when the first group is asked about.

    A consumer that is the first to ask tries again only after 3 s. Measured with librdkafka 2.16 on a new broker.
    """
    group = cluster.group_name("apply", "none")
    deadline = time.monotonic() + GROUPS_SECONDS
    while time.monotonic() < deadline:
        try:
            admin.describe_consumer_groups([group], request_timeout=GROUPS_SECONDS)[group].result()
        except confluent_kafka.KafkaException as failure:
            if failure.args[0].code() not in _NO_COORDINATOR_YET:
                return
            time.sleep(0.05)
        else:
            return


def _messages(cluster: Cluster, admin: AdminClient, counts: Mapping[str, int]) -> dict[str, int]:
    """Offsets between the beginning and the end of each topic."""
    totals = dict.fromkeys(counts, 0)
    for name, count in counts.items():
        parts = [confluent_kafka.TopicPartition(name, number) for number in range(count)]
        begin = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
        end = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        totals[name] = _offsets(cluster, admin, parts, end) - _offsets(cluster, admin, parts, begin)
    return totals


def _offsets(
    cluster: Cluster, admin: AdminClient, parts: Sequence[confluent_kafka.TopicPartition], spec: OffsetSpec
) -> int:
    """The sum of one offset of each partition. Partitions of a new topic have no leader for a moment."""
    deadline = time.monotonic() + ADMIN_SECONDS
    while True:
        try:
            answers = admin.list_offsets(dict.fromkeys(parts, spec), request_timeout=ADMIN_SECONDS)
            return sum(_result(cluster, future, "measure", part.topic).offset for part, future in answers.items())
        except AdminRefused as refusal:
            if refusal.details["code"] not in _NO_LEADER_YET or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _refuse_move(topic: str, state: TopicState, wanted: int) -> None:
    if state.messages:
        raise PartitionCountFixed(
            topic=topic, found=state.partitions, wanted=wanted,
            problem="it holds data, whose keys would move to other partitions",
            remedy=f"set kafka.partitions = {state.partitions}, or start with new topics under another kafka.prefix",
        )  # fmt: skip
    if wanted < state.partitions:
        raise PartitionCountFixed(
            topic=topic, found=state.partitions, wanted=wanted,
            problem="Kafka cannot take partitions away",
            remedy=f"set kafka.partitions = {state.partitions}, or delete the topic, which is empty, and apply again",
        )  # fmt: skip


def _normal(value: str | None) -> str | None:
    """Lists in one order: Kafka gives "compact,delete" back in the order it likes."""
    return None if value is None else ",".join(sorted(value.split(",")))


def _await(cluster: Cluster, answers: Mapping[Any, Future[Any]], action: str, topic: str) -> None:
    for future in answers.values():
        _result(cluster, future, action, topic)


# What a broker answers that has just started and does not know its partitions yet; the client does not call it
# retriable. Seen after a kill.
_STARTING = frozenset(
    {
        confluent_kafka.KafkaError.UNKNOWN_LEADER_EPOCH,
        confluent_kafka.KafkaError.FENCED_LEADER_EPOCH,
        confluent_kafka.KafkaError.NOT_LEADER_FOR_PARTITION,
        confluent_kafka.KafkaError.LEADER_NOT_AVAILABLE,
    }
)


def _passes(error: confluent_kafka.KafkaError) -> bool:
    """Whether it may be different in a moment; the client's own errors, all below 0, are those of connections."""
    return error.retriable() or error.code() < 0 or error.code() in _STARTING


def _result(cluster: Cluster, future: Future[Any], action: str, topic: str) -> Any:
    try:
        return future.result(ADMIN_SECONDS + 5)
    except (confluent_kafka.KafkaException, TimeoutError) as failure:
        error = failure.args[0] if failure.args else None
        if isinstance(error, confluent_kafka.KafkaError) and not _passes(error):
            problem = error.str().rstrip(".")
            raise AdminRefused(
                bootstrap=cluster.bootstrap, action=action, topic=topic, problem=problem, code=error.code()
            ) from failure
        problem = error.str() if isinstance(error, confluent_kafka.KafkaError) else "no answer in time"
        raise KafkaUnreachable(bootstrap=cluster.bootstrap, problem=problem) from failure
