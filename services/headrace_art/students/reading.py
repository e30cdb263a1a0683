"""What change detection needs of a record, without decoding it: its school's codes, and a hash of the rest.

Source: Avro 1.12 specification, binary encoding: a record of strings is their lengths and bytes, one after the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from headrace.codec.records import Record
from headrace.datasets.catalogue import Dataset
from headrace_art.mapping import StudentMapper, Template
from headrace_art.mapping.values import school_key
from headrace_art.students.changes import HASH_BYTES

DISTRICT = "ResponsibleDistrictIdentifier"
SCHOOL = "ResponsibleSchoolIdentifier"
_REMEMBERED = 50_000


class Reader:
    """Reads records of students.

    Parameters:
        schools: ART's ids of schools by `school_key`; it may change.
        policy: what is done with students of unknown schools: it decides what is sent.
    """

    def __init__(self, dataset: Dataset, mapper: StudentMapper, schools: Mapping[str, str], policy: str) -> None:
        columns = dataset.declaration.columns
        self.dataset, self._schools = dataset, schools
        names = [column.name for column in columns]
        first, second = names.index(DISTRICT), names.index(SCHOOL)
        self._skip = first if dataset.plain and second == first + 1 else None
        self._template = Template(mapper, names)
        self._keys: dict[bytes, str] = {}
        self._base = hashlib.blake2b(digest_size=HASH_BYTES)
        self._base.update(mapper.fingerprint + policy.encode())

    def student(self, record: Record, school: str) -> bytes | None:
        """The JSON of a student of a known school; None if the mapper must look at the row."""
        if not self.dataset.plain or record.schema != self.dataset.fingerprint:
            return None
        return self._template.student(record.body, school)

    def school(self, record: Record) -> str | None:
        """ART's id of the student's school; None if it is unknown. Raises UnknownSchema or MalformedEvent."""
        raw = self._codes(record)
        if raw is None:
            row = self.dataset.row(record)
            return self._schools.get(school_key(row.get(DISTRICT), row.get(SCHOOL)))
        key = self._keys.get(raw)
        if key is None:
            if len(self._keys) >= _REMEMBERED:
                self._keys.clear()
            row = self.dataset.row(record)
            key = self._keys[raw] = school_key(row.get(DISTRICT), row.get(SCHOOL))
        return self._schools.get(key)

    def digest(self, record: Record, school: str | None) -> bytes:
        """Stands for the row, what it is made into, and its school; not for where it stood."""
        found = self._base.copy()
        found.update(record.schema)
        found.update(record.body)
        found.update(b"\0" if school is None else school.encode())
        return found.digest()

    def _codes(self, record: Record) -> bytes | None:
        """The bytes of both codes with their lengths; None if they cannot be told without decoding."""
        if self._skip is None or record.schema != self.dataset.fingerprint:
            return None
        body = record.body
        try:
            place = 0
            for _ in range(self._skip):
                length = body[place]
                if length >= 0x80:
                    if body[place + 1] >= 0x80:
                        return None
                    place += 2 + (((length & 0x7F) | (body[place + 1] << 7)) >> 1)
                else:
                    place += 1 + (length >> 1)
            start = place
            for _ in range(2):
                length = body[place]
                if length >= 0x80:
                    return None
                place += 1 + (length >> 1)
        except IndexError:
            return None
        return body[start:place]
