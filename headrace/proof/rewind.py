"""Making a stopped service handle some items anew: its group is set back, and their receipts are taken back.

First the offsets, then the receipts: killed in between, the service reads again what its receipts still cover, which
changes nothing, and the replay starts again. The other way round an item would be passed without a receipt.
Source: design section 4, "Replay".
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import confluent_kafka
from confluent_kafka import ConsumerGroupTopicPartitions

from headrace.errors import ConfigError
from headrace.kafka.clients import Cluster, KafkaUnreachable
from headrace.keys import encode_key
from headrace.proof.groups import positions
from headrace.proof.replay import Work
from headrace.receipts import receipt_key
from headrace.stage.contract import Partition
from headrace.topics import CHUNK_TOPICS, UPLOAD_ACKS

REQUEST_SECONDS = 10.0
LOOK_EVERY = 0.5
MARGIN_SECONDS = 5.0
_IDLE = frozenset({"EMPTY", "DEAD", "UNKNOWN"})


class ServiceRuns(ConfigError):
    """The group {group} has running members ({members}). Stop the service before it is replayed, then try again."""

    code = "service-runs"


class NotRewound(ConfigError):
    """Kafka does not set the offsets of {group} back: {problem}. Stop the service before it is replayed."""

    code = "not-rewound"


def wait_until_idle(cluster: Cluster, group: str, session: float, state: Path, tell: Callable[[str], None]) -> None:
    """Return once the group has no members.

    A process that was killed stays a member until its session ends: that is waited for, and `tell` hears of it.

    Parameters:
        session: the group's session time-out in seconds.
        state: this machine's state folder, where running copies hold their slots.

    Raises ServiceRuns if members stay beyond their session, or a copy of this machine holds its slot.
    """
    deadline = time.monotonic() + session + MARGIN_SECONDS
    told = False
    while members := _members(cluster, group):
        if time.monotonic() > deadline or _slot_is_held(state, group):
            raise ServiceRuns(group=group, members=", ".join(sorted(members)))
        if not told:
            told = True
            tell(
                f"waiting up to {session + MARGIN_SECONDS:.0f} s for members of {group} whose process is gone"
                f" and whose session is not over: {', '.join(sorted(members))}"
            )
        time.sleep(LOOK_EVERY)


def rewind(cluster: Cluster, group: str, work: Sequence[Work]) -> Mapping[Partition, int]:
    """Set the group back to the first frame of what is to be done again; never forward. Returns the offsets set.

    Raises NotRewound if the group has members again, KafkaUnreachable.
    """
    lows: dict[Partition, int] = {}
    for each in work:
        lows[each.place] = min(each.first, lows.get(each.place, each.first))
    committed = positions(cluster).get(group, {})
    behind = {place: low for place, low in lows.items() if low < committed.get(place.topic, {}).get(place.number, -1)}
    if not behind:
        return {}
    # Without our metadata: the service then reads its receipts from the time of the message there.
    offsets = [
        confluent_kafka.TopicPartition(cluster.topic_name(CHUNK_TOPICS[topic]), number, low)
        for (topic, number), low in behind.items()
    ]
    request = [ConsumerGroupTopicPartitions(group, offsets)]
    admin = cluster.admin()
    future: Any = admin.alter_consumer_group_offsets(request, request_timeout=REQUEST_SECONDS)[group]
    try:
        answers = future.result().topic_partitions
    except confluent_kafka.KafkaException as error:
        raise NotRewound(group=group, problem=error.args[0].str()) from error
    problem = next((part.error for part in answers if part.error is not None), None)
    if problem is not None:
        raise NotRewound(group=group, problem=problem.str())
    return behind


def withdraw(cluster: Cluster, group: str, work: Sequence[Work]) -> None:
    """Take the group's receipts of these items back, and wait until that is on the log."""
    producer = cluster.producer()
    topic = cluster.topic_name(UPLOAD_ACKS)
    for each in work:
        key = encode_key(receipt_key(each.path_id.hex(), group, each.item))
        while True:
            try:
                producer.produce(topic, None, key, partition=each.partition)
            except BufferError:
                producer.poll(0.05)
                continue
            break
    producer.flush()


def _members(cluster: Cluster, group: str) -> list[str]:
    # The client must live until it has its answer.
    admin = cluster.admin()
    future: Any = admin.describe_consumer_groups([group], request_timeout=REQUEST_SECONDS)[group]
    try:
        found = future.result()
    except confluent_kafka.KafkaException as error:
        if error.args[0].code() == confluent_kafka.KafkaError.GROUP_ID_NOT_FOUND:
            return []
        raise KafkaUnreachable(bootstrap=cluster.bootstrap, problem=error.args[0].str()) from error
    if found.state.name in _IDLE:
        return []
    return [member.group_instance_id or member.member_id for member in found.members] or [found.state.name.lower()]


def _slot_is_held(state: Path, group: str) -> bool:
    """Whether a process of this machine runs as a member: it holds the lock of its slot, which ends with it."""
    for slot in (state / "slots" / group).glob("*"):
        handle = os.open(slot, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
    return False
