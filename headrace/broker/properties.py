"""What the embedded broker is configured with: Kafka's properties and the logger's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

LARGEST_MESSAGE = 2 * 1024 * 1024  # bytes of payload on any topic but the dead letters
_FRAMING = 64 * 1024  # bytes for key, headers and batch around the payload
_LISTS = ("listeners", "advertised.listeners", "listener.security.protocol.map")

# A broker that was killed may join again only when its old session has run out: 9 s by default, 11 s to the first
# answer. One node waits for nobody else. Not for every start, since a machine that stalls for a second would lose its
# leaders for a moment. With 1.3 s the broker's fourth try, after 0.1 + 0.2 + 0.4 + 0.8 s, is let in.
AFTER_A_CRASH = {"broker.session.timeout.ms": "1300", "broker.heartbeat.interval.ms": "250"}


def server_properties(
    *, data: Path, port: int, controller_port: int, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Properties of a single KRaft node that listens on the loopback address only.

    Parameters:
        data: folder of the log.
        port, controller_port: TCP ports for clients and for the node's own controller.
        extra: properties that win over ours; listeners are added to ours, since the readiness check needs those.

    Source: Apache Kafka 4.3 documentation, Broker Configs; replication factors for one node, KIP-932 for shares.
    """
    # Dead letters carry the bytes of a message of any topic with headers of their own.
    largest = str(2 * (LARGEST_MESSAGE + _FRAMING))
    properties = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "num.partitions": "6",
        "message.max.bytes": largest,
        "replica.fetch.max.bytes": largest,
        # One node: a flush each second bounds what a power cut can cost; a kill of the process costs nothing.
        "log.flush.interval.ms": "1000",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # Each partition costs files at creation and reading at start; one machine's groups need no fifty of them.
        "offsets.topic.num.partitions": "10",
        "transaction.state.log.num.partitions": "10",
        "share.coordinator.state.topic.num.partitions": "10",
        "group.initial.rebalance.delay.ms": "0",
        # The default of 128 MB would be half of the heap.
        "log.cleaner.dedupe.buffer.size": "16777216",
    }
    for name, value in (extra or {}).items():
        properties[name] = f"{properties[name]},{value}" if name in _LISTS else value
    return properties


def log_properties(*, log: Path, level: str) -> dict[str, str]:
    """Properties of Log4j 2 for one rolling file of at most 4 x 10 MB.

    Parameters:
        log: the file.
        level: "ERROR", "WARN", "INFO" or "DEBUG".

    Source: Log4j 2 manual, configuration file in properties format; the YAML format would need another jar.
    """
    return {
        "status": "error",
        "appender.file.type": "RollingFile",
        "appender.file.name": "file",
        "appender.file.fileName": str(log),
        "appender.file.filePattern": f"{log}.%i",
        "appender.file.layout.type": "PatternLayout",
        "appender.file.layout.pattern": "%d{ISO8601} %p %c %m%n",
        "appender.file.policies.type": "Policies",
        "appender.file.policies.size.type": "SizeBasedTriggeringPolicy",
        "appender.file.policies.size.size": "10MB",
        "appender.file.strategy.type": "DefaultRolloverStrategy",
        "appender.file.strategy.max": "3",
        "rootLogger.level": level,
        "rootLogger.appenderRef.file.ref": "file",
    }


def write_properties(path: Path, properties: Mapping[str, str]) -> None:
    """Write a Java properties file, readable by its owner only, since extra properties may hold passwords."""
    lines = [f"{name}={_escaped(value)}\n" for name, value in properties.items()]
    path.touch(mode=0o600)
    path.write_text("".join(lines), encoding="utf-8")


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")
