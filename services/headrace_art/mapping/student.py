"""One row of the dump as a student of ART. Source: reference art 2.3."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import Field, field_validator

from headrace.config import Section
from headrace_art.codes import GRADES
from headrace_art.mapping.rules import (
    BrokenRule,
    FieldCharacters,
    FieldMissing,
    FieldNotADate,
    FieldNotAlphanumeric,
    FieldTooLong,
    FieldUnknownCode,
    FieldWrongState,
)
from headrace_art.mapping.table import TABLE, Column, Kind
from headrace_art.mapping.values import (
    DEFAULT_GRADES,
    UNKNOWN_GRADE,
    DistrictRule,
    concatenated_id,
    district_id,
    flag,
    is_date,
    is_latin,
    school_key,
)

VERSION = 1
"""Raised when the same row becomes another student, so that all are sent again."""

_DISTRICT_COLUMN = "ResponsibleDistrictIdentifier"
_SCHOOL_COLUMN = "ResponsibleSchoolIdentifier"
_GRADE_COLUMN = "GradeLevelWhenAssessed"
_SEXES = ("male", "female")
_MEMORY = 20_000

Value = TypeVar("Value")


class MappingSettings(Section):
    """What an operator may want otherwise."""

    state: str = Field("CA", description="The state that is loaded; every row must name it.", pattern=r"^[A-Z]{2}$")
    grades: dict[str, str] = Field(
        {}, description="Grades of the dump that become others in ART, beside KN = KG, UE = UG, US = UG."
    )
    district_rule: DistrictRule = Field(
        "fixed", description="original: as the old loader, which gave a blank district an id of 14 zeros."
    )

    @field_validator("grades")
    @classmethod
    def _known(cls, grades: dict[str, str]) -> dict[str, str]:
        for wanted in grades.values():
            if wanted not in GRADES:
                raise ValueError(f"{wanted!r} is no grade of ART; valid: {', '.join(GRADES)}")
        return grades


class Mapped(NamedTuple):
    """What became of a row.

    `student` has ART's thirty properties. If `broken` holds anything it must not be sent. `known_school` says whether
    the school was found; if not, its id is null, which ART refuses. `unknown_grade` is the text of a grade that nobody
    knows, else None.
    """

    student: dict[str, Any]
    broken: tuple[BrokenRule, ...]
    known_school: bool
    unknown_grade: str | None


class StudentMapper:
    """Maps rows.

    Parameters:
        schools: ART's id of a school by `school_key` of its codes.
    """

    def __init__(self, settings: MappingSettings, schools: Mapping[str, str]) -> None:
        self._settings, self._schools = settings, schools
        self._state = settings.state
        self._grades = {**DEFAULT_GRADES, **settings.grades}
        self._flags = _Memory(flag)
        self._dates = _Memory(is_date)
        self._districts = _Memory(lambda code: district_id(code, settings.district_rule))
        stripped = (Kind.NAME, Kind.TEXT, Kind.CODE, Kind.SEX, Kind.IDENTIFIER, Kind.DATE, Kind.STATE)
        self._texts = [(str(column.name), column.key) for column in _of(*stripped)]
        self._yes_or_no = [(str(column.name), column.key) for column in _of(Kind.FLAG)]
        self._identifiers = [
            # A school that is unknown is no broken rule: what to do about it is a policy.
            (column.key, column.longest or 0, column.required and column.kind is not Kind.INSTITUTION)
            for column in _of(Kind.SSID, Kind.IDENTIFIER, Kind.INSTITUTION, Kind.DISTRICT)
        ]
        self._names = [(column.key, column.longest or 0) for column in _of(Kind.NAME)]
        self._days = [column.key for column in _of(Kind.DATE)]
        self._codes = [(column.key, column.codes, column.upper) for column in _of(Kind.CODE)]
        self._blank: dict[str, Any] = {column.key: None for column in TABLE}
        self.good = {
            "SSID": "1", "SmarterStudentID": "1", "Sex": "Male", _GRADE_COLUMN: GRADES[0],
            "StateAbbreviation": settings.state,
        }  # fmt: skip
        """A row that breaks no rule, but for its school."""

    @property
    def fingerprint(self) -> bytes:
        """16 bytes that change when the same row may become another student."""
        text = f"{VERSION} {self._settings.model_dump_json()}"
        return hashlib.blake2b(text.encode(), digest_size=16).digest()

    def institution(self, row: Mapping[str, Any]) -> str | None:
        """ART's id of the row's school, or None if it is unknown."""
        return self._schools.get(school_key(row.get(_DISTRICT_COLUMN), row.get(_SCHOOL_COLUMN))) or None

    def map(self, row: Mapping[str, Any], *, unlinked: bool = False, school: str | None = None) -> Mapped:
        """Make a student of a row.

        Parameters:
            row: the texts by column; a column that is missing or None is blank.
            school: ART's id of the row's school, if it was looked up before.
            unlinked: give an unknown school the id that its codes make, so that ART takes the student without a link.
        """
        student = self._blank.copy()
        get = row.get
        for name, key in self._texts:
            student[key] = (get(name) or "").strip()
        student["ssid"] = get("SSID") or ""  # as it is: ART stores what is around it, too
        flags = self._flags
        for name, key in self._yes_or_no:
            student[key] = flags[get(name) or ""]
        student["districtIdentifier"] = self._districts[get(_DISTRICT_COLUMN) or ""]
        institution = school or self.institution(row)
        known = institution is not None
        if not known and unlinked:
            institution = concatenated_id(get(_DISTRICT_COLUMN), get(_SCHOOL_COLUMN)) or None
        student["institutionIdentifier"] = institution
        text = (get(_GRADE_COLUMN) or "").strip()
        grade = self._grades.get(text)
        student["gradeLevelWhenAssessed"] = grade or UNKNOWN_GRADE
        broken = self._broken(student)
        if unlinked and institution is None:
            broken.append(_rule(FieldMissing, "institutionIdentifier"))
        return Mapped(student, tuple(broken), known, None if grade else text)

    def _broken(self, student: dict[str, Any]) -> list[BrokenRule]:
        broken: list[BrokenRule] = []
        for key, longest, required in self._identifiers:
            value = student[key]
            if not value:
                if required:
                    broken.append(_rule(FieldMissing, key))
            elif len(value) > longest:
                broken.append(_rule(FieldTooLong, key))
            elif not (value.isalnum() and value.isascii()):
                broken.append(_rule(FieldNotAlphanumeric, key))
        for key, longest in self._names:
            value = student[key]
            if len(value) > longest:
                broken.append(_rule(FieldTooLong, key))
            elif not value.isascii() and not is_latin(value):
                broken.append(_rule(FieldCharacters, key))
        dates = self._dates
        for key in self._days:
            value = student[key]
            if value and not dates[value]:
                broken.append(_rule(FieldNotADate, key))
        for key, codes, upper in self._codes:
            value = student[key]
            if value and (value.upper() if upper else value.lower()) not in codes:
                broken.append(_rule(FieldUnknownCode, key))
        if not student["sex"]:
            broken.append(_rule(FieldMissing, "sex"))
        elif student["sex"].lower() not in _SEXES:
            broken.append(_rule(FieldUnknownCode, "sex"))
        if not student["elpLevel"].isascii():
            broken.append(_rule(FieldCharacters, "elpLevel"))
        if student["stateAbbreviation"] != self._state:
            broken.append(_rule(FieldWrongState, "stateAbbreviation", state=self._state))
        return broken


class _Memory(dict[str, Value], Generic[Value]):
    """Remembers what a function said of the few texts that come again and again."""

    def __init__(self, function: Callable[[str], Value]) -> None:
        self._function = function

    def __missing__(self, text: str) -> Value:
        if len(self) >= _MEMORY:
            self.clear()
        value = self[text] = self._function(text)
        return value


def _of(*kinds: Kind) -> list[Column]:
    return [column for column in TABLE if column.kind in kinds]


def _rule(rule: type[BrokenRule], key: str, **details: object) -> BrokenRule:
    column = next(each for each in TABLE if each.key == key)
    return rule(field=key, column=column.name, longest=column.longest, **details)
