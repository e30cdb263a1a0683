"""Splitting text into fields, strictly: what a lenient reader would guess at is refused.

A lenient one takes a stray opening quote for the beginning of a field that goes on for hundreds of lines, and loses
those (reference art 1.7, 1.7b). Source: RFC 4180 for quoted fields.
"""

from __future__ import annotations

import re


class Dialect:
    """Splits the text of one record.

    Parameters:
        delimiter: one character.
        quoted: whether fields may stand in double quotes, doubled within.
    """

    def __init__(self, delimiter: str, *, quoted: bool) -> None:
        self.delimiter = delimiter
        self.quoted = quoted
        other = re.escape(delimiter)
        field = rf'"(?:[^"]|"")*+"|[^"{other}\r\n]*+'
        self._record = re.compile(rf"(?:{field})(?:{other}(?:{field}))*+")
        self._fields = re.compile(rf"(?:\A|{other})({field})")

    def split(self, text: str) -> list[str] | None:
        """The fields of a record that may hold quotes; None if the quotes make no sense."""
        if not self.quoted:
            values = text.split(self.delimiter)
            return None if any(value.startswith('"') for value in values) else values
        if self._record.fullmatch(text) is None:
            return None
        return [
            value[1:-1].replace('""', '"') if value.startswith('"') else value for value in self._fields.findall(text)
        ]
