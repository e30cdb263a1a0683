"""The embedded broker: one node of Apache Kafka for a machine that has none."""

from headrace.broker.embedded import DEFAULT_PORT, EmbeddedBroker, Status
from headrace.broker.probe import free_port

__all__ = ["DEFAULT_PORT", "EmbeddedBroker", "Status", "free_port"]
