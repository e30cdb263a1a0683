"""What a service, or a person with a task, must be allowed on a Kafka with access lists; nothing on the whole cluster.

It follows from the catalogue: what a service reads and writes, its group, and what the spine does for it. Of dead
letters services only write: their bodies may hold what few should see, so reading them is a task of its own.
Source: Apache Kafka 4.3 documentation, "Authorization and ACLs"; Read and Write imply Describe. KIP-679: an idempotent
producer needs no right on the cluster, since Kafka 2.8.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from headrace.errors import ConfigError
from headrace.families import StageEntry
from headrace.topics import DEAD_LETTERS, UPLOAD_ACKS, Topic

Operation = Literal["All", "Describe", "DescribeConfigs", "Read", "Write"]
Duty = Literal["dead-letters", "monitor", "operator", "redrive"]

DUTIES: dict[Duty, str] = {
    "monitor": "see books, jobs and lag: verify, jobs list; no bodies of dead letters",
    "dead-letters": "read the bodies of dead letters: dlq list, dlq show; with monitor",
    "redrive": "send dead letters again, or discard them: dlq redrive, dlq discard; with monitor and dead-letters",
    "operator": "everything below the prefix: topics apply, replay, jobs",
}
"""What people and services do beside a service's own work."""


class Allow(Protocol):
    """Notes that operations on a topic are needed."""

    def __call__(self, name: str, *operations: Operation, prefixed: bool = False) -> None:
        """Add them to those of the same name."""


class UnknownDuty(ConfigError):
    """There is no task {name}. Known tasks: {valid}."""

    code = "unknown-task"


@dataclass(frozen=True, order=True)
class Access:
    """Operations allowed on a topic or a group, or on all whose name begins so if `prefixed`; "*" is every name."""

    kind: Literal["topic", "group"]
    name: str
    prefixed: bool
    operations: tuple[Operation, ...]


def of_service(
    entry: StageEntry,
    catalogue: Sequence[Topic],
    prefix: str,
    sinks: Iterable[str] | None,
    foreign: Iterable[str] = (),
) -> list[Access]:
    """What `entry` needs.

    Parameters:
        prefix: of topics and groups.
        sinks: those that it fills, each with a group; empty: those of any name; None: it takes part in no group.
        foreign: topics of somebody else that it reads.
    """
    needs: dict[tuple[Literal["topic", "group"], str, bool], set[Operation]] = {}

    def allow(name: str, *operations: Operation, prefixed: bool = False) -> None:
        needs.setdefault(("topic", name, prefixed), set()).update(operations)

    for name in foreign:
        allow(name, "Read")
    by_name = {topic.name: topic for topic in catalogue}
    for name in entry.reads:
        _for_topic(name, prefix, by_name, allow, "Read")
        index = by_name[name].index if name in by_name else None
        if index is not None:
            # What expired unread is known from the index.
            allow(index.name_on(prefix), "Read")
    for name in entry.writes:
        _for_topic(name, prefix, by_name, allow, "Write")
        topic = by_name.get(name)
        if topic is None:
            continue
        if "compact" in topic.cleanup:
            # A table is read by those who keep it.
            allow(topic.name_on(prefix), "Read")
        if topic.index is not None:
            # A sender that starts again reads back where it was, and asks how large a message may be.
            allow(topic.name_on(prefix), "Read", "DescribeConfigs")
            allow(topic.index.name_on(prefix), "Read", "DescribeConfigs")
    if sinks is not None:
        # Receipts tell where to go on from.
        allow(UPLOAD_ACKS.name_on(prefix), "Read")
        for sink in sinks or ("",):
            needs["group", f"{prefix}{entry.name}.{sink}", not sink] = {"Read"}
    found = [Access(*resource, _sorted(operations)) for resource, operations in needs.items()]
    return merged([*found, *(access for duty in entry.duties for access in of_duty(duty, prefix))])


def of_duty(name: str, prefix: str) -> list[Access]:
    """What a task needs.

    Raises UnknownDuty.
    """
    topics, groups = Access("topic", prefix, True, ("Describe",)), Access("group", prefix, True, ("Describe",))
    match name:
        case "monitor":
            read = (f"{prefix}{topic}" for topic in ("chunks", "files", "jobs", "upload-acks"))
            return merged([topics, groups, *(Access("topic", each, False, ("Read",)) for each in read)])
        case "dead-letters":
            # The group keeps the place up to which everything is decided.
            decided = Access("group", f"{prefix}dlq", False, ("Read",))
            return merged([decided, Access("topic", DEAD_LETTERS.name_on(prefix), False, ("Read",))])
        case "redrive":
            # A dead letter goes back to the topic that it came from, which may be any.
            return merged([Access("topic", prefix, True, ("Write",))])
        case "operator":
            return merged([Access("topic", prefix, True, ("All",)), Access("group", prefix, True, ("All",))])
    raise UnknownDuty(name=name, valid=", ".join(DUTIES))


def merged(accesses: Iterable[Access]) -> list[Access]:
    """Each resource once, with all its operations."""
    needs: dict[tuple[Literal["topic", "group"], str, bool], set[Operation]] = {}
    for access in accesses:
        needs.setdefault((access.kind, access.name, access.prefixed), set()).update(access.operations)
    # Kafka knows no prefix of no letters.
    found = (
        Access(kind, name, prefixed, _sorted(operations)) if name else Access(kind, "*", False, _sorted(operations))
        for (kind, name, prefixed), operations in needs.items()
    )
    return sorted(found, key=lambda access: (access.kind == "group", access.name, access.prefixed))


def _for_topic(name: str, prefix: str, by_name: dict[str, Topic], allow: Allow, operation: Operation) -> None:
    """A name from the catalogue, or a pattern of names that ends in "*"."""
    if name.endswith("*"):
        allow(prefix + name.rstrip("*"), operation, prefixed=True)
    else:
        allow(by_name[name].name_on(prefix) if name in by_name else prefix + name, operation)


def _sorted(operations: set[Operation]) -> tuple[Operation, ...]:
    # Read and Write imply it.
    plain = operations - {"Describe"} if operations & {"Read", "Write"} else operations
    return tuple(sorted(plain))
