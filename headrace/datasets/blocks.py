"""Many lines at once: blocks of a file in which every line is good for sure, from its bytes to those of its records.

Looked at one by one, a line of a dump costs 6 us to judge and as much again to encode; most blocks of most files hold
nothing but good lines, which a few calls into C can tell. Whatever is doubtful in a block leaves it to `rows`, so both
ways find the same: a property compares them. Source: Avro 1.12 specification, binary encoding, for the records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from headrace.datasets.declaration import Declaration
from headrace.datasets.encoding import KEY_SEPARATOR, TABLED_LENGTHS, Encoder, picker
from headrace.keys import MAXIMUM_KEY_BYTES

_WHOLE_BLOCKS = frozenset({"ascii", "cp1252", "iso8859-1", "utf-8"})
"""Encodings in which a block is its lines, one after the other."""
_SEPARATOR = KEY_SEPARATOR.encode()


class Made(NamedTuple):
    """A record: the line that it came from, its key, and the dataset's fields, both as they are on the wire."""

    line: int
    key: bytes
    body: bytes


class Block(NamedTuple):
    """Good lines: the number of the first one, their texts in UTF-8 without line ends, and what they are made of."""

    first: int
    lines: Sequence[bytes]
    not_ascii: int
    layout: Layout

    def records(self) -> Iterator[Made]:
        """A record of each line."""
        return self.layout.records(self.first, self.lines)


class Layout:
    """Where the declared columns stand in the lines of a file without quotes, whose columns are all plain strings.

    Parameters:
        indices: places of the declared columns.
        width: fields of a line.
    """

    def __init__(self, declaration: Declaration, indices: Sequence[int], width: int) -> None:
        self._encoding = declaration.encoding
        self._delimiter = declaration.delimiter.encode()
        self._width = width
        self._select: Callable[[list[bytes]], Sequence[bytes]] = picker(indices, width)
        names = [column.name for column in declaration.columns]
        self._key = [names.index(name) for name in declaration.key]
        self._key_fields = [_field(indices[place], width, self._delimiter) for place in self._key]
        # What is shorter fits into a key even if each character of it must be escaped.
        self._longest_key_field = MAXIMUM_KEY_BYTES // 9 // len(self._key) - 1
        self._encoder = Encoder(declaration)

    @classmethod
    def of(cls, declaration: Declaration, indices: Sequence[int | None], width: int) -> Layout | None:
        """None for files that must be looked at line by line."""
        places = [index for index in indices if index is not None]
        plain = all(column.type == "string" and column.empty == "keep" for column in declaration.columns)
        if declaration.quoting != "none" or not plain or len(places) < len(indices):
            return None
        return cls(declaration, places, width) if declaration.encoding in _WHOLE_BLOCKS else None

    def judge(self, first: int, block: bytes) -> Block | None:
        """The lines of a block, which ends with a line end; None if one of them may not be good.

        Parameters:
            first: number of the first line.
        """
        delimiter = self._delimiter
        if b"\r" in block:
            return None
        ascii_only = block.isascii()
        if not ascii_only:
            if self._encoding != "utf-8" and not block.decode("utf-8", "ignore").isascii():
                return None  # one may be UTF-8 that is declared as something else
            try:
                block = block.decode(self._encoding).encode()
            except UnicodeDecodeError:
                return None
        if b'"' in block and (block[:1] == b'"' or delimiter + b'"' in block or b'\n"' in block):
            return None
        lines = block.split(b"\n")
        lines.pop()
        lengths = set(map(len, lines))
        if 0 in lengths or max(lengths) >= TABLED_LENGTHS:
            return None
        if {line.count(delimiter) for line in lines} != {self._width - 1}:
            return None
        for field in self._key_fields:
            lengths = set(map(len, map(field, lines)))
            if 0 in lengths or max(lengths) > self._longest_key_field:
                return None
        not_ascii = 0 if ascii_only else len(lines) - sum(map(bytes.isascii, lines))
        return Block(first, lines, not_ascii, self)

    def records(self, first: int, lines: Sequence[bytes]) -> Iterator[Made]:
        """A record of each line that was judged to be good."""
        select, delimiter, key, body = self._select, self._delimiter, self._wire_key, self._encoder.strings
        for number, line in enumerate(lines, first):
            values = select(line.split(delimiter))
            yield Made(number, key(values, number), body(values))

    def _wire_key(self, values: Sequence[bytes], line: int) -> bytes:
        parts = [values[place] for place in self._key]
        if all(map(bytes.isalnum, parts)):
            return _SEPARATOR.join(parts)
        return self._encoder.wire_key([value.decode() for value in values], line)


def _field(index: int, width: int, delimiter: bytes) -> Callable[[bytes], bytes]:
    """Takes one field out of a line, from the end that is nearer."""
    if index < width - index:
        return lambda line: line.split(delimiter, index + 1)[index]
    return lambda line: line.rsplit(delimiter, width - index)[1]
