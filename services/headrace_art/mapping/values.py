"""What single values mean: flags, grades, dates, identifiers, characters. Source: reference art 2.4 to 2.7."""

from __future__ import annotations

import datetime
import re
import unicodedata
from collections.abc import Mapping
from typing import Literal

from headrace_art.codes import GRADES

_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EXTRA_CHARACTERS = frozenset("\u0160\u0161\u017d\u017e\u0178\u2019")
_CODE_DIGITS = 7
_DISTRICT_SUFFIX = "0" * 7
_DISTRICT_DIGITS = 14

DEFAULT_GRADES: Mapping[str, str] = {"KN": "KG", "UE": "UG", "US": "UG", **{grade: grade for grade in GRADES}}
"""What each grade of the dump is in ART; review PS, PR and PK with the owner of the data."""

UNKNOWN_GRADE = "UG"
"""The grade of a student whose own is unknown."""

DistrictRule = Literal["fixed", "original"]


def flag(text: str | None) -> bool:
    """Whether a column says yes: case-folded, then NFKD-normalised. There is no error for odd values."""
    return unicodedata.normalize("NFKD", (text or "").strip().casefold()) == "yes"


def is_date(text: str) -> bool:
    """Whether it is a day of the calendar as YYYY-MM-DD, and nothing that a lenient parser would also take."""
    if _ISO_DATE.fullmatch(text) is None:
        return False
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def is_identifier(text: str) -> bool:
    """Whether it consists of letters and digits."""
    return text.isascii() and text.isalnum()


def is_latin(text: str) -> bool:
    """Whether ART takes the characters of a name.

    Code points up to 255 and six more, S and Z with caron, Y with diaeresis, the right single quote; with one of those
    all other characters must be printable.
    """
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        pass
    else:
        return True
    others = [character for character in text if character not in _EXTRA_CHARACTERS]
    return all(ord(character) <= 255 and character.isprintable() for character in others)


def district_id(code: str | None, rule: DistrictRule = "fixed") -> str:
    """ART's id of a district from its county-district code.

    Parameters:
        code: 7 digits, perhaps without leading zeros.
        rule: `original` does what the loader did, also to a blank code (14 zeros) and to one that is complete already
            (21 digits); `fixed` leaves these two as they are.
    """
    text = (code or "").strip()
    if rule == "fixed" and (not text or (len(text) == _DISTRICT_DIGITS and text.endswith(_DISTRICT_SUFFIX))):
        return text
    return (text + _DISTRICT_SUFFIX).rjust(_DISTRICT_DIGITS, "0")


def school_key(district: str | None, school: str | None) -> str:
    """What schools and students are matched by: both codes stripped, and with the zeros that a spreadsheet eats."""
    return f"{_code(district)}/{_code(school)}"


def concatenated_id(district: str | None, school: str | None) -> str:
    """The id that the loader used before it had a schools file: right but for charter schools."""
    return _code(district) + _code(school)


def _code(text: str | None) -> str:
    stripped = (text or "").strip()
    return stripped.zfill(_CODE_DIGITS) if stripped.isdecimal() and stripped.isascii() else stripped
