"""What the stand-in stores: students and entities. Source: reference art 3.5 to 3.7."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import orjson

from headrace_art.sandbox.student import unpack


class Entity(msgspec.Struct, rename="camel"):
    """A state, district or institution."""

    entity_id: str | None = None
    entity_name: str | None = None
    parent_entity_id: str | None = None
    parent_entity_type: str | None = None
    state_abbreviation: str | None = None
    nationwide_identifier: str | None = None
    id: str | None = None


class Ids:
    """Mongo ids: 24 hexadecimal digits, equal for equal seeds."""

    def __init__(self, seed: int) -> None:
        self._prefix, self._numbers = f"65f0{seed & 0xFFFF:04x}", itertools.count(1)

    def next(self) -> str:
        """One more."""
        return f"{self._prefix}{next(self._numbers):016x}"


class Entities:
    """States, districts and institutions, and which of them students may refer to yet."""

    def __init__(self, ids: Ids, now: Callable[[], float]) -> None:
        self._ids, self._now = ids, now
        self.kinds: dict[str, dict[str, Entity]] = {"state": {}, "district": {}, "institution": {}}
        self._index: dict[tuple[str, str, str], Entity] = {}
        self._nationwide: Counter[tuple[str, str]] = Counter()
        self._children: Counter[tuple[str, str]] = Counter()
        self._fresh: set[tuple[str, str]] = set()
        self._changed = float("-inf")

    def find(self, kind: str, entity_id: str | None, state: str | None) -> Entity | None:
        """By business id."""
        return self._index.get((kind, entity_id or "", state or ""))

    def taken(self, kind: str, nationwide: str) -> int:
        """How many of this kind have the nationwide id."""
        return self._nationwide[kind, nationwide]

    def children(self, kind: str, entity: Entity) -> int:
        """How many have it as parent."""
        return self._children[kind, f"{entity.state_abbreviation}/{entity.entity_id}"]

    def add(self, kind: str, entity: Entity, *, fresh: bool = True) -> Entity:
        """Store a new one."""
        entity.id = self._ids.next()
        self._put(kind, entity, fresh=fresh)
        return entity

    def replace(self, kind: str, entity: Entity) -> None:
        """Store another version of an existing one."""
        if entity.id is None:
            raise KeyError("id")
        self._forget(kind, self.kinds[kind][entity.id])
        self._put(kind, entity, fresh=False)

    def remove(self, kind: str, entity: Entity) -> None:
        """Delete."""
        self._forget(kind, entity)
        self._changed = self._now()

    def accessible(self, kind: str, entity: Entity, lag: float) -> bool:
        """Whether the cache of what a user may see has this entity: it is rebuilt when entities have been still."""
        if self._fresh and self._now() >= self._changed + lag:
            self._fresh.clear()
        return (kind, entity.id or "") not in self._fresh

    def lines(self, kind: str) -> Iterator[bytes]:
        """One kind in the order of ids, without internal ids, as JSON lines."""
        for entity in sorted(
            self.kinds[kind].values(), key=lambda each: (each.state_abbreviation or "", each.entity_id or "")
        ):
            values = msgspec.to_builtins(entity)
            del values["id"]
            yield orjson.dumps(values, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)

    def _put(self, kind: str, entity: Entity, *, fresh: bool) -> None:
        identity = entity.id or ""
        self.kinds[kind][identity] = entity
        self._index[kind, entity.entity_id or "", entity.state_abbreviation or ""] = entity
        if entity.nationwide_identifier:
            self._nationwide[kind, entity.nationwide_identifier] += 1
        self._children[self._parent(entity)] += 1
        if fresh:
            self._fresh.add((kind, identity))
            self._changed = self._now()

    def _forget(self, kind: str, entity: Entity) -> None:
        del self.kinds[kind][entity.id or ""]
        del self._index[kind, entity.entity_id or "", entity.state_abbreviation or ""]
        if entity.nationwide_identifier:
            self._nationwide[kind, entity.nationwide_identifier] -= 1
        self._children[self._parent(entity)] -= 1

    @staticmethod
    def _parent(entity: Entity) -> tuple[str, str]:
        kind = "state" if entity.parent_entity_type == "STATE" else "district"
        return kind, f"{entity.state_abbreviation}/{entity.parent_entity_id}"


class Students:
    """Students by state and SSID, packed; which are without a link; how often each was saved."""

    def __init__(self) -> None:
        self.states: dict[str, dict[str, bytes]] = {}
        self.unlinked: dict[tuple[str, str], str] = {}
        self.saved_again: Counter[tuple[str, str]] = Counter()
        self.accommodations: set[tuple[str, str]] = set()

    def get(self, state: str, ssid: str) -> bytes | None:
        """The packed student."""
        found = self.states.get(state)
        return None if found is None else found.get(ssid)

    def save(self, state: str, ssid: str, packed: bytes, unlinked: str) -> None:
        """Replace the whole document. `unlinked` names the links that are missing: "district institution"."""
        table = self.states.setdefault(state, {})
        key = (state, ssid)
        if ssid in table:
            self.saved_again[key] += 1
        table[ssid] = packed
        if unlinked:
            self.unlinked[key] = unlinked
        elif self.unlinked:
            self.unlinked.pop(key, None)

    def delete(self, state: str, ssid: str) -> bool:
        """Whether it was there."""
        self.unlinked.pop((state, ssid), None)
        return self.states.get(state, {}).pop(ssid, None) is not None

    def __len__(self) -> int:
        return sum(len(table) for table in self.states.values())

    def lines(self) -> Iterator[bytes]:
        """All students in the order of state and SSID, as JSON lines with sorted keys."""
        for state in sorted(self.states):
            table = self.states[state]
            for ssid in sorted(table):
                yield orjson.dumps(unpack(table[ssid]), option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)

    def link_lines(self) -> Iterator[bytes]:
        """The students without a link, as JSON lines."""
        for (state, ssid), missing in sorted(self.unlinked.items()):
            line: Mapping[str, Any] = {"ssid": ssid, "stateAbbreviation": state, "missing": missing}
            yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
