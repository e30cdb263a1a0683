"""What ART answers, as values. Source: reference art 3.4, 3.5, 3.7."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


class Unexpected(ValueError):
    """A body is not what its endpoint answers."""


@dataclass(frozen=True)
class Failure:
    """A student that ART refused after it had taken the batch. The message may hold values: it is for no log."""

    ssid: str
    message: str


@dataclass(frozen=True)
class BatchStatus:
    """How far a batch is.

    `failures` is a set at ART: equal pairs of SSID and message stand in it once, so `failed` is computed.
    """

    id: str
    submitted: int
    processed: int
    succeeded: int
    failures: tuple[Failure, ...]

    @property
    def failed(self) -> int:
        """How many students were refused."""
        return self.processed - self.succeeded

    @property
    def done(self) -> bool:
        """Whether every student was processed. After a restart of ART's broker that may never be."""
        return self.processed >= self.submitted

    @classmethod
    def of(cls, body: Any) -> Self:
        """From the answer. Raises Unexpected."""
        record = _mapping(body)
        exceptions = record.get("exceptions") or []
        if not isinstance(exceptions, list):
            raise Unexpected("exceptions is no array")
        failures = tuple(
            Failure(str(each.get("ssid") or ""), str(each.get("errorMessage") or ""))
            for each in map(_mapping, exceptions)
        )
        submitted, processed, succeeded = (
            _count(record, key) for key in ("numSubmitted", "numProcessed", "numSuccess")
        )
        return cls(str(record.get("id") or ""), submitted, processed, succeeded, failures)


@dataclass(frozen=True)
class Entity:
    """A district or institution as ART stores it; `record` is all of it, for sending it back changed."""

    id: str
    entity_id: str
    name: str
    parent_id: str
    record: Mapping[str, Any] = field(compare=False, repr=False)

    @classmethod
    def of(cls, body: Any) -> Self:
        """From an answer. Raises Unexpected."""
        record = _mapping(body)
        identity, entity_id = record.get("id"), record.get("entityId")
        if not isinstance(identity, str) or not isinstance(entity_id, str):
            raise Unexpected("an entity without ids")
        name, parent = record.get("entityName") or "", record.get("parentEntityId") or ""
        return cls(identity, entity_id, str(name), str(parent), record)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Unexpected("an object was expected")
    return value


def _count(record: Mapping[str, Any], key: str) -> int:
    value = record.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Unexpected(f"{key} is no number")
    return value
