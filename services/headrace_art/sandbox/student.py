"""A student as ART binds it from JSON, checks it, and stores it. Source: reference art 2.3, 2.7, 3.6.

Written apart from the mapping that the product sends with, so that each is tested against the other.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import msgspec

from headrace_art.codes import DISABILITIES, GRADES, LANGUAGES, TITLE_3_PROGRAMS

_EXTRA_CHARACTERS = frozenset("ŠšŽžŸ’")  # noqa: RUF001 - the right single quote is meant


class Student(msgspec.Struct, rename="camel", gc=False):
    """The thirty properties. Unknown ones are ignored; a wrong type refuses the whole request."""

    ssid: str | None = None
    first_name: str | None = None
    middle_name: str | None = None
    last_name: str | None = None
    sex: str | None = None
    birth_date: str | None = None
    external_ssid: str | None = None
    institution_identifier: str | None = None
    district_identifier: str | None = None
    grade_level_when_assessed: str | None = None
    hispanic_or_latino: bool | None = None
    american_indian_or_alaska_native: bool | None = None
    asian: bool | None = None
    black_or_african_american: bool | None = None
    white: bool | None = None
    native_hawaiian_or_pacific_island: bool | None = None
    two_or_more_races: bool | None = None
    first_entry_date_into_us_school: str | None = None
    idea_indicator: bool | None = msgspec.field(default=None, name="iDEAIndicator")
    lep_status: bool | None = None
    lep_entry_date: str | None = None
    lep_exit_date: str | None = None
    elp_level: str | None = None
    section504_status: bool | None = None
    disadvantage_status: bool | None = None
    language_code: str | None = None
    migrant_status: bool | None = None
    title3_program_type: str | None = None
    primary_disability_type: str | None = None
    state_abbreviation: str | None = None


NAMES: tuple[str, ...] = Student.__struct_encode_fields__
"""The JSON keys, in the order in which a packed student holds their values."""

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[str | bool | None, ...]).decode
_one = msgspec.json.Decoder(Student)
_many = msgspec.json.Decoder(list[Student])


class BadDate(ValueError):
    """A date that does not bind: the request is refused."""


class Binder:
    """Turns request bodies into students, normalised as ART does."""

    def __init__(self) -> None:
        self._dates: dict[str, bool] = {}

    def many(self, body: bytes) -> list[Student]:
        """The students of an array.

        Raises msgspec.DecodeError for what is no JSON, msgspec.ValidationError for wrong types, BadDate.
        """
        students = _many.decode(body)
        for student in students:
            self._normalise(student)
        return students

    def one(self, body: bytes) -> Student:
        """One student. Raises as `many`."""
        student = _one.decode(body)
        self._normalise(student)
        return student

    def _normalise(self, student: Student) -> None:
        student.birth_date = self._date(student.birth_date)
        student.first_entry_date_into_us_school = self._date(student.first_entry_date_into_us_school)
        student.lep_entry_date = self._date(student.lep_entry_date)
        student.lep_exit_date = self._date(student.lep_exit_date)
        if student.sex:
            student.sex = student.sex.title()
        if student.language_code:
            student.language_code = student.language_code.lower()
        if student.primary_disability_type:
            student.primary_disability_type = student.primary_disability_type.upper()
        if student.title3_program_type:
            student.title3_program_type = student.title3_program_type.upper()
        # Null flags become false, except that section 504 may be unknown.
        student.hispanic_or_latino = bool(student.hispanic_or_latino)
        student.american_indian_or_alaska_native = bool(student.american_indian_or_alaska_native)
        student.asian = bool(student.asian)
        student.black_or_african_american = bool(student.black_or_african_american)
        student.white = bool(student.white)
        student.native_hawaiian_or_pacific_island = bool(student.native_hawaiian_or_pacific_island)
        student.two_or_more_races = bool(student.two_or_more_races)
        student.idea_indicator = bool(student.idea_indicator)
        student.lep_status = bool(student.lep_status)
        student.disadvantage_status = bool(student.disadvantage_status)
        student.migrant_status = bool(student.migrant_status)

    def _date(self, text: str | None) -> str | None:
        if not text:
            return None
        valid = self._dates.get(text)
        if valid is None:
            if len(self._dates) > 100_000:
                self._dates.clear()
            valid = self._dates[text] = _is_date(text)
        if not valid:
            raise BadDate
        return text


def _is_date(text: str) -> bool:
    try:
        return len(text) == 10 and bool(datetime.date.fromisoformat(text))
    except ValueError:
        return False


def pack(student: Student) -> bytes:
    """A fifth of the memory that the object takes; equal for equal students."""
    return _pack(msgspec.structs.astuple(student))


def unpack(packed: bytes) -> dict[str, Any]:
    """The thirty properties by their JSON keys."""
    return dict(zip(NAMES, _unpack(packed), strict=True))


def broken_rules(student: Student) -> list[tuple[str, str]]:
    """The rules that a student breaks: pairs of a JSON key and a text."""
    broken: list[tuple[str, str]] = []
    _identifier(broken, "ssid", student.ssid, 40, required=True)
    _identifier(broken, "externalSsid", student.external_ssid, 50, required=True)
    _identifier(broken, "institutionIdentifier", student.institution_identifier, 40, required=True)
    _identifier(broken, "districtIdentifier", student.district_identifier, 40)
    _name(broken, "firstName", student.first_name, 35)
    _name(broken, "middleName", student.middle_name, 35)
    _name(broken, "lastName", student.last_name, 100)
    _one_of(broken, "sex", student.sex, ("Male", "Female"), required=True)
    _one_of(broken, "gradeLevelWhenAssessed", student.grade_level_when_assessed, GRADES, required=True)
    _one_of(broken, "languageCode", student.language_code, LANGUAGES)
    _one_of(broken, "primaryDisabilityType", student.primary_disability_type, DISABILITIES)
    _one_of(broken, "title3ProgramType", student.title3_program_type, TITLE_3_PROGRAMS)
    if student.elp_level and not student.elp_level.isascii():
        broken.append(("elpLevel", "elpLevel must be ASCII"))
    if not student.state_abbreviation:
        broken.append(("stateAbbreviation", "stateAbbreviation is required"))
    return broken


def _identifier(
    broken: list[tuple[str, str]], key: str, value: str | None, longest: int, *, required: bool = False
) -> None:
    value = (value or "").strip()
    if not value:
        if required:
            broken.append((key, f"{key} is required"))
    elif len(value) > longest:
        broken.append((key, f"{key} is longer than {longest}"))
    elif not (value.isascii() and value.isalnum()):
        broken.append((key, f"{key} must be letters and digits"))


def _name(broken: list[tuple[str, str]], key: str, value: str | None, longest: int) -> None:
    if not value:
        return
    if len(value.strip()) > longest:
        broken.append((key, f"{key} is longer than {longest}"))
    elif not is_latin(value):
        broken.append((key, f"{key} has characters that are not allowed"))


def _one_of(
    broken: list[tuple[str, str]],
    key: str,
    value: str | None,
    valid: Sequence[str] | frozenset[str],
    *,
    required: bool = False,
) -> None:
    if not value:
        if required:
            broken.append((key, f"{key} is required"))
    elif value not in valid:
        broken.append((key, f"{key} is none of the valid values"))


def is_latin(text: str) -> bool:
    """Whether ART takes the characters of a name: code points to 255, and six more if all others can be printed."""
    if text.isascii():
        return True
    others = [character for character in text if character not in _EXTRA_CHARACTERS]
    if any(ord(character) > 255 for character in others):
        return False
    return len(others) == len(text) or all(character.isprintable() for character in others)
