"""The rules of ART that a student may break, checked before anything is sent. Source: reference art 2.3, 2.7.

BrokenRule
├── FieldMissing
├── FieldTooLong
├── FieldNotAlphanumeric
├── FieldCharacters
├── FieldNotADate
├── FieldUnknownCode
└── FieldWrongState

The messages name the field and never its value.
"""

from __future__ import annotations

from headrace.errors import PermanentError


class BrokenRule(PermanentError):
    """ART would refuse the field {field}."""

    code = "art-rule"

    @property
    def field(self) -> str:
        """The JSON property."""
        return str(self.details["field"])


class FieldMissing(BrokenRule):
    """The field {field} (column {column}) is blank, and ART requires it. Complete it in the source."""

    code = "art-field-missing"


class FieldTooLong(BrokenRule):
    """The field {field} (column {column}) is longer than the {longest} characters that ART takes."""

    code = "art-field-too-long"


class FieldNotAlphanumeric(BrokenRule):
    """The field {field} (column {column}) must be letters and digits only, without blanks around them."""

    code = "art-field-not-alphanumeric"


class FieldCharacters(BrokenRule):
    """The field {field} (column {column}) has characters that ART does not take; Latin-1 is safe."""

    code = "art-field-characters"


class FieldNotADate(BrokenRule):
    """The field {field} (column {column}) is no day of the calendar as YYYY-MM-DD. ART would refuse the whole batch."""

    code = "art-field-not-a-date"


class FieldUnknownCode(BrokenRule):
    """The field {field} (column {column}) is none of the codes that ART knows; see the reference of the students."""

    code = "art-field-unknown-code"


class FieldWrongState(BrokenRule):
    """The field {field} (column {column}) is not {state}, the state that is loaded."""

    code = "art-field-wrong-state"
