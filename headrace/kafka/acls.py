"""Access lists on a Kafka: which are there, which are missing, making them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

import confluent_kafka
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from headrace.errors import ConfigError
from headrace.kafka.access import Access, Operation
from headrace.kafka.clients import Cluster, KafkaUnreachable

REQUEST_SECONDS = 30.0
ANY_HOST = "*"

_KINDS = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP}
_OPERATIONS: dict[Operation, AclOperation] = {
    "All": AclOperation.ALL,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
}


class AccessListsRefused(ConfigError):
    """Kafka at {bootstrap} does not let this user {action} access lists: {problem}. It takes Alter and Describe on the cluster, and a Kafka with authorizer.class.name set; or hand the printed commands to who may."""  # noqa: E501

    code = "access-lists-refused"


def bindings(principal: str, accesses: Iterable[Access]) -> list[AclBinding]:
    """One for each operation, as Kafka keeps them."""
    return [
        AclBinding(
            _KINDS[access.kind], access.name, _pattern(access), principal, ANY_HOST, _OPERATIONS[operation],
            AclPermissionType.ALLOW,
        )
        for access in accesses
        for operation in access.operations
    ]  # fmt: skip


def commands(principal: str, accesses: Sequence[Access], bootstrap: str) -> list[str]:
    """The same as commands of Kafka's own tool, one for each resource."""
    return [
        shlex.join(
            [
                "kafka-acls.sh", "--bootstrap-server", bootstrap, "--add", "--allow-principal", principal,
                *(part for operation in access.operations for part in ("--operation", operation)),
                f"--{access.kind}", access.name,
                *(("--resource-pattern-type", "prefixed") if access.prefixed else ()),
            ]
        )
        for access in accesses
    ]  # fmt: skip


def missing(cluster: Cluster, wanted: Sequence[AclBinding]) -> list[AclBinding]:
    """Those of `wanted` that are not on this Kafka.

    Raises AccessListsRefused or KafkaUnreachable.
    """
    anything: Any = None  # the client's annotations leave out that no name is every name
    every = AclBindingFilter(
        ResourceType.ANY, anything, ResourcePatternType.ANY, anything, anything, AclOperation.ANY, AclPermissionType.ANY
    )
    admin = cluster.admin()
    try:
        there = set(admin.describe_acls(every, request_timeout=REQUEST_SECONDS).result(REQUEST_SECONDS + 5))
    except (confluent_kafka.KafkaException, TimeoutError) as error:
        raise _failure(cluster, "read", error) from error
    return [each for each in wanted if each not in there]


def make(cluster: Cluster, wanted: Sequence[AclBinding]) -> None:
    """Make them; those that are there already stay as they are.

    Raises AccessListsRefused or KafkaUnreachable.
    """
    if not wanted:
        return
    admin: AdminClient = cluster.admin()
    try:
        for future in admin.create_acls(list(wanted), request_timeout=REQUEST_SECONDS).values():
            future.result(REQUEST_SECONDS + 5)
    except (confluent_kafka.KafkaException, TimeoutError) as error:
        raise _failure(cluster, "make", error) from error


def _failure(cluster: Cluster, action: str, error: Exception) -> AccessListsRefused | KafkaUnreachable:
    found = error.args[0] if error.args else None
    if not isinstance(found, confluent_kafka.KafkaError):
        return KafkaUnreachable(bootstrap=cluster.bootstrap, problem="no answer in time")
    if found.code() < 0 or found.retriable():
        return KafkaUnreachable(bootstrap=cluster.bootstrap, problem=found.str())
    return AccessListsRefused(bootstrap=cluster.bootstrap, action=action, problem=found.str().rstrip("."))


def _pattern(access: Access) -> ResourcePatternType:
    return ResourcePatternType.PREFIXED if access.prefixed else ResourcePatternType.LITERAL
