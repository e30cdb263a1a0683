"""The JSON of students, straight from the bytes of their records: what most rows need, at a quarter of the time.

Most values of a dump come again and again, and each column becomes one property whatever the others hold. So what a
value becomes is asked of the mapper once, on a row that is good otherwise, and remembered as JSON. What is doubtful is
left to the mapper, so both ways make the same: a property compares them.
Source: Avro 1.12 specification, binary encoding: a record of strings is their lengths and bytes, one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

import orjson

from headrace_art.mapping.student import StudentMapper
from headrace_art.mapping.table import TABLE, Column, Kind

_MEMORY = 20_000
"""Values of a column that are remembered."""
_LONG = 0x80
_NEGATIVE = 0x01
_TOGETHER = 3
"""Columns at most: all their combinations must fit into the memory."""
_FEW = frozenset({Kind.FLAG, Kind.CODE, Kind.GRADE, Kind.SEX, Kind.STATE})
_PLAIN_NAME = re.compile(rb"(?:[!#-\[\]-~](?:[ !#-\[\]-~]*[!#-\[\]-~])?)?").fullmatch
"""ASCII that is the same in JSON, without blanks around it."""


class _Doubtful(Exception):
    """The mapper must look at the row."""


class Template:
    """Makes the JSON of students.

    Parameters:
        columns: names of a record's fields, in their order; all are strings.
    """

    def __init__(self, mapper: StudentMapper, columns: Sequence[str]) -> None:
        self._mapper = mapper
        self._columns = {column.name: column for column in TABLE}
        self._groups = [(len(group), self._of_all(group)) for group in _groups(columns)]
        self._ends = _Memory(self._end)

    def student(self, body: bytes, school: str) -> bytes | None:
        """The student as ART wants it; None if there is anything that must be looked at.

        Parameters:
            body: a record's fields.
            school: ART's id of the student's school.
        """
        found, place = [b"{"], 0
        add = found.append
        try:
            for count, made in self._groups:
                stop = place + 1 + (body[place] >> 1)
                while count > 1:
                    stop += 1 + (body[stop] >> 1)
                    count -= 1
                add(made[body[place:stop]])
                place = stop
            if place != len(body):
                return None
            add(self._ends[school.encode()])
        except (_Doubtful, IndexError):
            return None
        return b"".join(found)

    def _of_all(self, group: Sequence[str]) -> _Known:
        """What encoded values of adjacent columns become."""
        columns = [self._columns.get(name) for name in group]
        if len(columns) > 1:
            memories = [_Memory(self._of_one(column)) for column in columns]
            return _Memory(
                lambda raw: b"".join(
                    [memory[value] for memory, value in zip(memories, _values(raw, len(memories)), strict=True)]
                )
            )
        (column,) = columns
        make = self._of_one(column)
        if column is not None and column.kind in (Kind.SSID, Kind.IDENTIFIER):
            return _Identifier(_begin(column), column.longest or 0, lambda raw: make(_values(raw, 1)[0]))
        return _Memory(lambda raw: make(_values(raw, 1)[0]))

    def _of_one(self, column: Column | None) -> Callable[[bytes], bytes]:
        """Makes the property of a column."""
        if column is None or column.name is None or column.kind is Kind.INSTITUTION:
            return lambda _: b""  # ART does not want it
        name, key, begin, longest = column.name, column.key, _begin(column), column.longest or 0

        def asked(raw: bytes) -> bytes:
            mapped = self._mapper.map({**self._mapper.good, name: _text(raw)}, school="1")
            if mapped.broken or mapped.unknown_grade is not None:
                raise _Doubtful
            return begin + orjson.dumps(mapped.student[key]) + b","

        def person(raw: bytes) -> bytes:
            return b'%b"%b",' % (begin, raw) if _PLAIN_NAME(raw) and len(raw) <= longest else asked(raw)

        return person if column.kind is Kind.NAME else asked

    def _end(self, raw: bytes) -> bytes:
        mapped = self._mapper.map(self._mapper.good, school=_text(raw))
        if mapped.broken or not mapped.known_school:
            raise _Doubtful
        names = [column.key for column in TABLE if column.kind in (Kind.INSTITUTION, Kind.NOTHING)]
        return orjson.dumps({name: mapped.student[name] for name in names})[1:]


class _Known(Protocol):
    def __getitem__(self, raw: bytes, /) -> bytes: ...


class _Memory(dict[bytes, bytes]):
    """What bytes become; `make` tells it of those that are new."""

    def __init__(self, make: Callable[[bytes], bytes]) -> None:
        self._make = make

    def __missing__(self, raw: bytes) -> bytes:
        made = self._make(raw)
        if len(self) >= _MEMORY:
            self.clear()
        self[raw] = made
        return made


class _Identifier:
    """What an encoded identifier becomes: everybody has one of their own, so nothing is remembered."""

    def __init__(self, begin: bytes, longest: int, otherwise: Callable[[bytes], bytes]) -> None:
        self._begin, self._longest, self._otherwise = begin + b'"', longest, otherwise

    def __getitem__(self, encoded: bytes) -> bytes:
        raw = encoded[1:]
        if raw.isalnum() and len(raw) <= self._longest and len(raw) << 1 == encoded[0]:
            return b'%b%b",' % (self._begin, raw)
        return self._otherwise(encoded)


def _begin(column: Column) -> bytes:
    return orjson.dumps(column.key) + b":"


def _groups(columns: Sequence[str]) -> list[list[str]]:
    """The columns in their order; adjacent ones that have few values each are looked up together."""
    kinds = {column.name: column.kind for column in TABLE}
    groups: list[list[str]] = []
    few_before = False
    for name in columns:
        few = kinds.get(name) in _FEW
        if few and few_before and len(groups[-1]) < _TOGETHER:
            groups[-1].append(name)
        else:
            groups.append([name])
        few_before = few
    return groups


def _values(raw: bytes, count: int) -> list[bytes]:
    """So many texts; doubtful if they are long, or anything else."""
    values: list[bytes] = []
    place = 0
    for _ in range(count):
        length = raw[place]
        if length & (_LONG | _NEGATIVE):
            raise _Doubtful
        place += 1 + (length >> 1)
        values.append(raw[place - (length >> 1) : place])
    if place != len(raw):
        raise _Doubtful
    return values


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _Doubtful from None
