"""Bounded reads: everything that is in a topic now, from a given place, without a group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import lt
from typing import Any

import confluent_kafka

from headrace.kafka.clients import METADATA_SECONDS, Cluster, KafkaUnreachable, TopicRefused
from headrace.kafka.raw import RawMessage, consume
from headrace.topics import Topic

SECONDS_WITHOUT_PROGRESS = 60.0

BOUNDED: Mapping[str, Any] = {
    "enable.partition.eof": True,
    # A broker answers one request of a connection after the other: a fetch that waits at the end of a partition holds
    # up what is asked next, and to here there is nothing to wait for.
    "fetch.wait.max.ms": 5,
}
"""Properties of a consumer for bounded reads."""


def read_now(
    cluster: Cluster,
    topic: Topic,
    *,
    starts: Mapping[int, int] | None = None,
    ends: Mapping[int, int] | None = None,
    consumer: confluent_kafka.Consumer | None = None,
) -> Iterator[Sequence[RawMessage]]:
    """The raw messages of `topic` in batches, up to what was there at the call, in log order per partition.

    Parameters:
        starts: first offset per partition; those that are not named are left out. Default: all, from the beginning.
        ends: offset to stop before, per partition. Default: the end at the call.
        consumer: one of ours to use; it must have no assignment, and has none afterwards.

    Raises TopicRefused if this user may not read it, KafkaUnreachable if nothing comes for a minute.
    """
    reader = consumer or cluster.consumer(None, {**BOUNDED, "isolation.level": "read_uncommitted"})
    name = cluster.topic_name(topic)
    try:
        wanted = range(cluster.partitions(topic, reader)) if starts is None else sorted(starts)
        open_ends: dict[int, int] = {}
        nexts: dict[int, int] = {}
        assignment = []
        for number in wanted:
            low, high = watermarks(cluster, reader, name, number)
            start = low if starts is None else min(max(starts[number], low), high)
            end = min(high, ends.get(number, high)) if ends else high
            if start < end:
                open_ends[number] = end
                nexts[number] = start
                assignment.append(confluent_kafka.TopicPartition(name, number, start))
        reader.assign(assignment)
        waited = 0.0
        while open_ends:
            batch = [*consume(reader, 1, 1.0), *consume(reader, 999, 0)]
            waited = 0.0 if batch else waited + 1.0
            if waited >= SECONDS_WITHOUT_PROGRESS:
                raise KafkaUnreachable(bootstrap=cluster.bootstrap, problem=f"no answer while reading {name}")
            if len(open_ends) == 1 and _is_plain(batch, open_ends, nexts):
                yield batch
                continue
            wanted_messages = []
            for message in batch:
                error = message.error()
                number, offset = message.partition(), message.offset()
                if error is not None:
                    # The end of a partition may be compacted away: then no message bears the last offset.
                    if error.code() == confluent_kafka.KafkaError._PARTITION_EOF:  # noqa: SLF001
                        open_ends.pop(number, None)
                    elif error.code() == confluent_kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED:
                        raise TopicRefused(topic=name)
                    continue
                stop = open_ends.get(number)
                # The client may give a message twice, when it fetches from its last position again.
                if stop is None or offset < nexts[number]:
                    continue
                nexts[number] = offset + 1
                if offset < stop:
                    wanted_messages.append(message)
                if offset + 1 >= stop:
                    del open_ends[number]
            if wanted_messages:
                yield wanted_messages
        reader.unassign()
    finally:
        if consumer is None:
            reader.close()


def _is_plain(batch: Sequence[RawMessage], open_ends: Mapping[int, int], nexts: dict[int, int]) -> bool:
    """Whether a batch of the one partition left is just its next messages, of which none is the last: most are.

    Looking at a batch at once takes a third of the time, where millions are read for one.
    """
    ((number, stop),) = open_ends.items()
    offsets = [message.offset() for message in batch if message.error() is None and message.partition() == number]
    plain = (
        bool(offsets)
        and len(offsets) == len(batch)
        and nexts[number] <= offsets[0]
        and offsets[-1] + 1 < stop
        and all(map(lt, offsets, offsets[1:]))
    )
    if plain:
        nexts[number] = offsets[-1] + 1
    return plain


def watermarks(cluster: Cluster, consumer: confluent_kafka.Consumer, name: str, number: int) -> tuple[int, int]:
    """The first offset that is there, and the one after the last.

    Raises KafkaUnreachable if nobody answers within 10 s.
    """
    try:
        low, high = consumer.get_watermark_offsets(
            confluent_kafka.TopicPartition(name, number), timeout=METADATA_SECONDS
        )
    except confluent_kafka.KafkaException as error:
        raise KafkaUnreachable(bootstrap=cluster.bootstrap, problem=error.args[0].str()) from error
    return low, high


def offsets_at(cluster: Cluster, topic: Topic, milliseconds: int) -> dict[int, int]:
    """The first offset by partition whose message is not older than `milliseconds` since the epoch.

    A partition without such a message is left out. Raises KafkaUnreachable or MissingTopic.
    """
    consumer = cluster.consumer(None)
    try:
        name = cluster.topic_name(topic)
        asked = [
            confluent_kafka.TopicPartition(name, number, milliseconds)
            for number in range(cluster.partitions(topic, consumer))
        ]
        found = consumer.offsets_for_times(asked, timeout=METADATA_SECONDS)
        # No such message: there is nothing to read.
        return {place.partition: place.offset for place in found if place.offset >= 0}
    except confluent_kafka.KafkaException as error:
        raise KafkaUnreachable(bootstrap=cluster.bootstrap, problem=error.args[0].str()) from error
    finally:
        consumer.close()
