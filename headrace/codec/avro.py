"""Avro single-object encoding: marker C3 01, the schema's CRC-64-AVRO fingerprint in little-endian order, the body.

The schemas are shipped with the code of writer and reader (`schemas/*.avsc`, older ones under `schemas/history`); an
unknown fingerprint is poison with the code `unknown-schema`, re-driven after the upgrade.
Source: Avro 1.12 specification, "Single-object encoding"; design section 3.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import fastavro
import msgspec
from fastavro.schema import fingerprint, to_parsing_canonical_form

from headrace.errors import PoisonError
from headrace.events import Event
from headrace.resources import resource

MARKER = b"\xc3\x01"
HEADER_BYTES = 10
SCHEMA_ID_BYTES = 5

EventType = TypeVar("EventType", bound=Event)


class UnknownSchema(PoisonError):
    """The event was written with a schema that this version of Headrace does not carry (fingerprint {fingerprint})."""

    code = "unknown-schema"


class UnknownSchemaId(UnknownSchema):
    """The event bears the schema id {id}, which no schema registry that is set here (kafka.registry) knows."""


class MalformedEvent(PoisonError):
    """The value is not a {event} in Avro single-object encoding: {problem}."""

    code = "malformed-event"


class _Schemas:
    """All shipped schemas: the current one by event name, every writer's by fingerprint."""

    def __init__(self) -> None:
        self.raw: dict[str, Mapping[str, Any]] = {}
        self.current: dict[str, Any] = {}
        self.header: dict[str, bytes] = {}
        self.writers: dict[bytes, tuple[str, Any]] = {}
        folder = resource("schemas")
        for path in sorted(folder.glob("*.avsc")) + sorted(folder.glob("history/*.avsc")):
            raw = json.loads(path.read_text("utf-8"))
            name = str(raw["name"])
            mark = schema_fingerprint(raw)
            # Without logical types: fastavro would build a datetime for every time stamp, and that costs the most.
            parsed = fastavro.parse_schema(_plain(raw))
            self.writers[mark] = (name, parsed)
            if path.parent == folder:
                self.raw[name] = raw
                self.current[name] = parsed
                self.header[name] = MARKER + mark


@cache
def _schemas() -> _Schemas:
    return _Schemas()


def schema_fingerprint(schema: Any) -> bytes:
    """The 8 bytes that stand for `schema` (a parsed JSON schema) in a single-object header, already little-endian."""
    return bytes.fromhex(str(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")))


def shipped() -> Sequence[Mapping[str, Any]]:
    """The current schema of every event, as parsed JSON."""
    return tuple(_schemas().raw.values())


def refuse_schema_id(raw: bytes) -> None:
    """Raise UnknownSchemaId if the value is in Confluent framing, which a registry that knows the id takes off."""
    if len(raw) >= SCHEMA_ID_BYTES and raw[0] == 0:
        raise UnknownSchemaId(id=int.from_bytes(raw[1:SCHEMA_ID_BYTES], "big"))


def marks_of(kind: type[Event]) -> frozenset[bytes]:
    """The fingerprints of all shipped schemas of an event."""
    return frozenset(mark for mark, (name, _) in _schemas().writers.items() if name == kind.__name__)


def _plain(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: _plain(value) for name, value in schema.items() if name != "logicalType"}
    if isinstance(schema, list):
        return [_plain(value) for value in schema]
    return schema


def encode(event: Event) -> bytes:
    """The event with its header, by the schema that bears the name of its class."""
    name = type(event).__name__
    schemas = _schemas()
    out = io.BytesIO()
    out.write(schemas.header[name])
    fastavro.schemaless_writer(out, schemas.current[name], msgspec.to_builtins(event, builtin_types=(bytes,)))
    return out.getvalue()


def decode(raw: bytes, kind: type[EventType]) -> EventType:
    """The event in a message value.

    Raises UnknownSchema for a fingerprint that is not shipped, MalformedEvent for anything else that is wrong.
    """
    return decode_one_of(raw, (kind,))


def decode_one_of(raw: bytes, kinds: Sequence[type[EventType]]) -> EventType:
    """The event in a value of a topic that holds events of several kinds; which one it is, its header tells.

    Raises UnknownSchema for a fingerprint that is not shipped, MalformedEvent for anything else that is wrong.
    """
    if len(raw) < HEADER_BYTES or raw[:2] != MARKER:
        refuse_schema_id(raw)
        raise MalformedEvent(event=_either(kinds), problem="the single-object header is missing")
    schemas = _schemas()
    written = schemas.writers.get(raw[2:HEADER_BYTES])
    if written is None:
        raise UnknownSchema(fingerprint=raw[2:HEADER_BYTES].hex())
    name, writer = written
    kind = next((kind for kind in kinds if kind.__name__ == name), None)
    if kind is None:
        raise MalformedEvent(event=_either(kinds), problem=f"it is a {name}")
    body = io.BytesIO(raw)
    body.seek(HEADER_BYTES)
    try:
        record = fastavro.schemaless_reader(body, writer, schemas.current[name])
        if body.tell() != len(raw):
            raise MalformedEvent(event=name, problem=f"{len(raw) - body.tell()} bytes are left over")
        return msgspec.convert(record, kind, builtin_types=(bytes,))
    except (EOFError, ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        # The class alone: its text may quote values.
        raise MalformedEvent(event=name, problem=type(error).__name__) from error


def _either(kinds: Sequence[type[Event]]) -> str:
    return " or ".join(kind.__name__ for kind in kinds)
