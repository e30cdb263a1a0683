"""Confluent framing, where a schema registry is set: 0x00, the schema's id in four bytes, the Avro body.

The body is the same as in single-object encoding, so only the header is exchanged, on the way to Kafka and back.
Readers accept both framings. A schema's subject is its full name (RecordNameStrategy), since some
topics hold several kinds of events; it is registered at the start, and kept BACKWARD compatible unless somebody has set
something else. Source: Confluent documentation, "Wire format" and "Subject name strategy"; design section 3.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import confluent_kafka
import httpx2
import structlog
from confluent_kafka.schema_registry import ConfigCompatibilityLevel, Schema, SchemaRegistryClient, ServerConfig
from confluent_kafka.schema_registry.error import SchemaRegistryError

from headrace.codec import avro
from headrace.config import KafkaSettings
from headrace.errors import ConfigError, TransientError
from headrace.kafka.raw import RawMessage
from headrace.topics import CHUNK_TOPICS, DEAD_LETTERS

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

MAGIC = b"\x00"
PREFIX_BYTES = 5
OUR_SUBJECTS = "headrace."
COMPATIBILITY = ConfigCompatibilityLevel.BACKWARD

SECONDS_PER_REQUEST = 5
RETRY_SECONDS = 2.0
UNKNOWN_SECONDS = 30.0
MOST_HELD = 10_000
_NOT_FOUND, _CONFLICT, _UNPROCESSABLE = 404, 409, 422
_FORBIDDEN = (401, 403)


class RegistryUnreachable(TransientError):
    """The schema registry at {url} does not answer: {problem}; trying again in {retry_after} s."""

    code = "registry-unreachable"
    default_retry_after = RETRY_SECONDS


class RegistryLoginRefused(ConfigError):
    """The schema registry at {url} refuses us: {problem}. Check kafka.registry_login, or the file that kafka.registry_login_file names, as user:password."""  # noqa: E501

    code = "registry-login-refused"


class RegistrySettingsWrong(ConfigError):
    """The schema registry at {url} cannot be used: {problem}. Check kafka.registry and [kafka.registry_properties]."""

    code = "registry-settings-wrong"


class SchemaRefused(ConfigError):
    """The schema registry at {url} does not take the schema of {subject}: {problem}. What is registered there is newer or another one; use a registry of this Headrace's own, or upgrade."""  # noqa: E501

    code = "schema-refused"


class Registry:
    """A schema registry: ids for what we write, fingerprints for what we read. May be used by several threads.

    Parameters:
        client: confluent-kafka's own.
        url: for messages.
    """

    def __init__(self, client: SchemaRegistryClient, url: str) -> None:
        self.url = url
        self._client = client
        self._prefixes: dict[bytes, bytes] = {}
        self._headers: dict[bytes, bytes] = {}
        self._unknown: dict[bytes, float] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_settings(cls, settings: KafkaSettings) -> Registry | None:
        """The registry that is set, or None.

        Raises RegistrySettingsWrong.
        """
        if settings.registry is None:
            return None
        properties: dict[str, Any] = {"url": settings.registry, "timeout": SECONDS_PER_REQUEST, "max.retries": 1}
        properties |= settings.registry_properties
        if settings.registry_login is not None:
            properties["basic.auth.user.info"] = settings.registry_login.get_secret_value()
        try:
            client = SchemaRegistryClient.new_client(properties)
        except (ValueError, TypeError, OSError) as error:
            raise RegistrySettingsWrong(url=settings.registry, problem=str(error).rstrip(".")) from error
        return cls(client, settings.registry)

    def producer(self, prefix: str) -> Callable[[dict[str, Any]], confluent_kafka.Producer]:
        """Makes producers that frame events as the registry has them; `prefix` is that of our topics."""
        return partial(FramingProducer, registry=self, prefix=prefix)

    def consumer(self, prefix: str) -> Callable[[dict[str, Any]], confluent_kafka.Consumer]:
        """Makes consumers that take either framing; `prefix` is that of our topics."""
        return partial(FramingConsumer, registry=self, prefix=prefix)

    def look(self) -> None:
        """Return if it answers; changes nothing there.

        Raises RegistryLoginRefused, RegistrySettingsWrong, RegistryUnreachable.
        """
        try:
            self._ask(lambda: self._client.get_subjects(subject_prefix=OUR_SUBJECTS))
        except SchemaRegistryError as error:
            raise RegistrySettingsWrong(url=self.url, problem=_words(error)) from error

    def announce(self, schemas: Iterable[Mapping[str, Any]]) -> None:
        """See that these schemas, parsed JSON, are registered.

        Raises SchemaRefused, RegistryLoginRefused, RegistryUnreachable.
        """
        with self._lock:
            for schema in schemas:
                mark = avro.schema_fingerprint(schema)
                if mark not in self._prefixes:
                    number = self._registered(schema)
                    self._prefixes[mark] = MAGIC + number.to_bytes(4, "big")
                    self._headers[self._prefixes[mark]] = avro.MARKER + mark

    def outgoing(self, value: bytes) -> bytes:
        """The value in Confluent framing if its schema was announced, else as it is, which readers take as well."""
        if value[:2] == avro.MARKER:
            prefix = self._prefixes.get(value[2 : avro.HEADER_BYTES])
            if prefix is not None:
                return prefix + value[avro.HEADER_BYTES :]
        return value

    def incoming(self, value: bytes) -> bytes:
        """The value in single-object encoding; as it is if it has no Confluent framing, or an id that nobody knows.

        Raises RegistryUnreachable, RegistryLoginRefused.
        """
        if len(value) < PREFIX_BYTES or value[:1] != MAGIC:
            return value
        prefix = value[:PREFIX_BYTES]
        header = self._headers.get(prefix) or self._header(prefix)
        return value if header is None else header + value[PREFIX_BYTES:]

    def _header(self, prefix: bytes) -> bytes | None:
        with self._lock:
            if self._unknown.get(prefix, 0.0) > time.monotonic():
                return None
            number = int.from_bytes(prefix[1:], "big")
            try:
                found = self._ask(lambda: self._client.get_schema(number))
            except SchemaRegistryError:
                self._unknown[prefix] = time.monotonic() + UNKNOWN_SECONDS
                return None
            try:
                header = avro.MARKER + avro.schema_fingerprint(json.loads(str(found.schema_str)))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                # A schema of another kind than Avro, or none at all: nothing of ours.
                log.warning("a schema of the registry cannot be read", id=number, error=type(error).__name__)
                self._unknown[prefix] = time.monotonic() + UNKNOWN_SECONDS
                return None
            self._headers[prefix] = header
            return header

    def _registered(self, schema: Mapping[str, Any]) -> int:
        subject = ".".join(str(schema[part]) for part in ("namespace", "name") if schema.get(part))
        wanted = Schema(json.dumps(schema), "AVRO")
        try:
            try:
                # Looking comes first: it takes no right to write.
                return int(self._ask(lambda: self._client.lookup_schema(subject, wanted)).schema_id or 0)
            except SchemaRegistryError as error:
                if error.http_status_code != _NOT_FOUND:
                    raise
            self._keep_compatible(subject)
            return int(self._ask(lambda: self._client.register_schema(subject, wanted)))
        except SchemaRegistryError as error:
            if error.http_status_code in (_CONFLICT, _UNPROCESSABLE):
                raise SchemaRefused(url=self.url, subject=subject, problem=_words(error)) from error
            raise RegistrySettingsWrong(url=self.url, problem=_words(error)) from error

    def _keep_compatible(self, subject: str) -> None:
        try:
            self._ask(lambda: self._client.get_config(subject))
        except SchemaRegistryError as error:
            if error.http_status_code != _NOT_FOUND:
                raise
            config = ServerConfig(compatibility=COMPATIBILITY)
            self._ask(lambda: self._client.set_config(subject, config))

    def _ask(self, question: Callable[[], Answer]) -> Answer:
        """The registry's answer. Raises SchemaRegistryError for one of its own that is meant for the caller."""
        try:
            return question()
        except httpx2.TransportError as error:
            raise RegistryUnreachable(url=self.url, problem=str(error) or type(error).__name__) from error
        except SchemaRegistryError as error:
            if error.http_status_code in _FORBIDDEN:
                raise RegistryLoginRefused(url=self.url, problem=_words(error)) from error
            if error.http_status_code >= 500 or error.http_status_code == 429:
                raise RegistryUnreachable(url=self.url, problem=_words(error)) from error
            raise


class FramingProducer(confluent_kafka.Producer):
    """A producer that frames events as the registry has them."""

    def __init__(self, properties: dict[str, Any], registry: Registry, prefix: str) -> None:
        super().__init__(properties)
        self._registry = registry
        self._avro = AvroTopics(prefix)

    def produce(self, topic: str, value: Any = None, *arguments: Any, **options: Any) -> None:
        """As the client's own."""
        if value is not None and self._avro[topic]:
            value = self._registry.outgoing(value)
        super().produce(topic, value, *arguments, **options)


class FramingConsumer(confluent_kafka.Consumer):
    """A consumer that gives out events in single-object encoding, whatever framing they have on the log.

    While the registry is away, a message with an id that was never met waits here, and what comes after it.
    """

    def __init__(self, properties: dict[str, Any], registry: Registry, prefix: str) -> None:
        super().__init__(properties)
        self._registry = registry
        self._avro = AvroTopics(prefix)
        self._held: deque[confluent_kafka.Message] = deque()
        self._again = 0.0

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[confluent_kafka.Message]:
        """As the client's own."""
        waiting = bool(self._held)
        if len(self._held) < MOST_HELD:
            patience = timeout if not waiting or time.monotonic() < self._again else 0
            fetched = super().consume(num_messages, patience)
            if not waiting and all(map(self._framed_as_ours, fetched)):
                return fetched
            self._held.extend(fetched)
        found: list[confluent_kafka.Message] = []
        while self._held and len(found) < num_messages and self._translated(self._held[0]):
            found.append(self._held.popleft())
        return found

    def poll(self, timeout: float = -1) -> confluent_kafka.Message | None:
        """As the client's own."""
        found = self.consume(1, timeout)
        return found[0] if found else None

    def assign(self, partitions: list[confluent_kafka.TopicPartition]) -> None:
        """As the client's own."""
        self._held.clear()
        super().assign(partitions)

    def unassign(self) -> None:
        """As the client's own."""
        self._held.clear()
        super().unassign()

    def incremental_assign(self, partitions: list[confluent_kafka.TopicPartition]) -> None:
        """As the client's own."""
        self._forget(partitions)
        super().incremental_assign(partitions)

    def incremental_unassign(self, partitions: list[confluent_kafka.TopicPartition]) -> None:
        """As the client's own."""
        self._forget(partitions)
        super().incremental_unassign(partitions)

    def _forget(self, partitions: Sequence[confluent_kafka.TopicPartition]) -> None:
        # They are fetched again from where their next owner, perhaps this one, goes on.
        gone = {(part.topic, part.partition) for part in partitions}
        self._held = deque(each for each in self._held if (each.topic(), each.partition()) not in gone)

    def _framed_as_ours(self, message: confluent_kafka.Message) -> bool:
        """Whether there is nothing to exchange."""
        value = message.value()
        return value is None or value[:1] != MAGIC or message.error() is not None or not self._avro[message.topic()]

    def _translated(self, message: confluent_kafka.Message) -> bool:
        """Exchange the header; whether it may be given out."""
        if self._framed_as_ours(message):
            return True
        if time.monotonic() < self._again:
            return False
        try:
            message.set_value(self._registry.incoming(cast("RawMessage", message).value() or b""))
        except (RegistryUnreachable, RegistryLoginRefused) as error:
            self._again = time.monotonic() + RETRY_SECONDS
            log.warning("waiting for the schema registry", problem=str(error))
            return False
        return True


class AvroTopics(dict[str | None, bool]):
    """Whether a topic holds events, by its name on the wire: frames, original bytes and states are no events."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix
        self._others = (*CHUNK_TOPICS, DEAD_LETTERS.name)

    def __missing__(self, topic: str | None) -> bool:
        name = (topic or "").removeprefix(self._prefix)
        ours = (topic or "").startswith(self._prefix)
        self[topic] = ours and name not in self._others and not name.startswith("state.")
        return self[topic]


def _words(error: SchemaRegistryError) -> str:
    return f"{error.error_message} (HTTP {error.http_status_code})".replace("\n", " ")
