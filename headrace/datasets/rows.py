"""Rows of a file, with their line numbers, and what is wrong with those that cannot be read.

A line is a physical line, ended by LF, CRLF or CR; line 1 is the header. In a zip with several members the lines are
counted through, so that a number names one line of the file. Source: reference art 1.7, 2.1, 4.2 R2.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, NamedTuple, cast

from headrace.datasets.blocks import Block, Layout
from headrace.datasets.content import LARGEST_CONTENT, Member, members
from headrace.datasets.declaration import Declaration
from headrace.datasets.dialect import Dialect
from headrace.datasets.encoding import selector
from headrace.datasets.errors import (
    BlankLine,
    HeaderMismatch,
    NoHeader,
    RefusedRow,
    RowTooLong,
    StrayQuote,
    SuspectedUtf8,
    Undecodable,
    WrongColumns,
    WrongEncoding,
)

BLOCK = 64 * 1024
"""Bytes that are looked at together: one doubtful row makes that each row of its block is looked at."""
LONGEST_ROW = 512 * 1024
"""Bytes; a record and a dead letter must fit into a message."""
KEPT_OF_LONG_ROW = 64 * 1024
MOST_LINES_OF_A_ROW = 200
"""How far a quoted field with line breaks is followed, before its opening quote counts as stray."""

_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_READS_EVERY_BYTE_SEQUENCE_OF_ITS_OWN = frozenset({"utf-8", "utf-8-sig", "utf-7", "ascii"})


class Row(NamedTuple):
    """A row that can be read: `values` in the order of the declared columns, `plain` if all of it is ASCII."""

    line: int
    values: Sequence[str]
    plain: bool
    raw: bytes


class BadRow(NamedTuple):
    """A row that cannot: its bytes, and why."""

    line: int
    raw: bytes
    error: RefusedRow


class _Line(NamedTuple):
    number: int
    raw: bytes
    cut: bool
    end: bytes


class Rows:
    """Reads one file by a declaration. After a pass, `lines` says how many lines there were.

    Parameters:
        limit: bytes that may come out of an archive.
    """

    def __init__(self, declaration: Declaration, limit: int = LARGEST_CONTENT) -> None:
        self._declaration = declaration
        self._limit = limit
        self._dialect = Dialect(declaration.delimiter, quoted=declaration.quoting == "double")
        self._suspicious = declaration.encoding not in _READS_EVERY_BYTE_SEQUENCE_OF_ITS_OWN
        self.lines = 0
        self.headers: list[list[str]] = []
        self._layout: Layout | None = None

    def read(self, file: BinaryIO) -> Iterator[Row | BadRow]:
        """Every row of `file`, in order.

        Raises a RefusedFile where the file as a whole makes no sense.
        """
        for found in self._read(file, whole_blocks=False):
            assert not isinstance(found, Block)  # noqa: S101 - none was asked for
            yield found

    def blocks(self, file: BinaryIO) -> Iterator[Row | BadRow | Block]:
        """The same, with good rows in blocks where that can be told without looking at each.

        Raises a RefusedFile where the file as a whole makes no sense.
        """
        return self._read(file, whole_blocks=True)

    def _read(self, file: BinaryIO, *, whole_blocks: bool) -> Iterator[Row | BadRow | Block]:
        self.lines = 0
        self.headers = []
        columns = len(self._declaration.columns)
        for member in members(file, self._limit):
            self._layout = None
            found = self._lines(member)
            # Without a layout, which quotes rule out, there are no blocks among them.
            lines = cast("Iterator[_Line]", found)
            width, indices = columns, list[int | None](range(columns))
            if self._declaration.header:
                width, indices = self._header(member, next(lines, None))
            if whole_blocks:
                self._layout = Layout.of(self._declaration, indices, width)
            select = selector(indices, width)
            yield from self._quoted(lines, width, select) if self._dialect.quoted else self._plain(found, width, select)

    def _lines(self, member: Member) -> Iterator[_Line | Block]:
        """The lines of a member, without their ends; of a line that is too long the beginning.

        Once there is a layout, blocks of good lines come whole.
        """
        rest = member.read(BLOCK)
        if rest.startswith(_UTF16_MARKS):
            raise WrongEncoding(encoding=self._declaration.encoding, seems="UTF-16")
        rest = rest.removeprefix(_UTF8_MARK)
        skipping = False
        while True:
            block = member.read(BLOCK)
            whole = rest + block
            end = whole.rfind(b"\n") + 1
            if self._layout is not None and end and not skipping:
                good = self._layout.judge(self.lines + 1, whole[:end])
                if good is not None:
                    self.lines += len(good.lines)
                    yield good
                    whole = whole[end:]
            parts = whole.splitlines(keepends=True)
            # The last part may go on in the next block, and so may a line end: CR LF.
            rest = parts.pop() if block and parts else b""
            for part in parts:
                if skipping:
                    skipping = False
                    continue
                self.lines += 1
                raw = part.rstrip(b"\r\n")
                if len(raw) > LONGEST_ROW:
                    yield _Line(self.lines, raw[:KEPT_OF_LONG_ROW], True, b"")
                else:
                    yield _Line(self.lines, raw, False, part[len(raw) :])
            if not block:
                return
            if skipping:
                rest = rest[-1:] if rest.endswith(b"\r") else b""
            elif len(rest) > LONGEST_ROW + 1:
                self.lines += 1
                yield _Line(self.lines, rest[:KEPT_OF_LONG_ROW], True, b"")
                skipping = True
                rest = rest[-1:] if rest.endswith(b"\r") else b""

    def _header(self, member: Member, line: _Line | None) -> tuple[int, list[int | None]]:
        """How many fields a line has, and which of them the declared columns are."""
        declaration = self._declaration
        if line is None or not line.raw or line.cut:
            raise NoHeader(member=member.name)
        try:
            found = self._dialect.split(line.raw.decode(declaration.encoding))
        except UnicodeDecodeError as error:
            raise HeaderMismatch(
                member=member.name, dataset=declaration.name, problem=f"it is not in {declaration.encoding}"
            ) from error
        if found is None:
            raise HeaderMismatch(member=member.name, dataset=declaration.name, problem="its quotes make no sense")
        names = [name.strip().casefold() for name in found]
        wanted = [column.name.casefold() for column in declaration.columns]
        missing = [
            column.name
            for column, name in zip(declaration.columns, wanted, strict=True)
            if name not in names and not column.optional
        ]
        if missing:
            problem = f"{len(missing)} columns are missing: {', '.join(missing[:5])}"
            raise HeaderMismatch(member=member.name, dataset=declaration.name, problem=problem)
        twice = next((column.name for column in declaration.columns if names.count(column.name.casefold()) > 1), None)
        if twice is not None:
            problem = f"the column {twice} is there twice"
            raise HeaderMismatch(member=member.name, dataset=declaration.name, problem=problem)
        extra = len(set(names) - set(wanted))
        if extra and declaration.rules.extra_columns == "refuse":
            problem = f"{extra} columns are not declared"
            raise HeaderMismatch(member=member.name, dataset=declaration.name, problem=problem)
        self.headers.append([name.strip() for name in found])
        return len(names), [names.index(name) if name in names else None for name in wanted]

    def _text(self, line: int, raw: bytes) -> str | RefusedRow:
        """A row that is not ASCII as text, or why not."""
        try:
            text = raw.decode(self._declaration.encoding)
        except UnicodeDecodeError as error:
            return Undecodable(line=line, position=error.start + 1, encoding=self._declaration.encoding)
        if self._suspicious and _is_utf8(raw):
            return SuspectedUtf8(line=line, encoding=self._declaration.encoding)
        return text

    def _plain(
        self, lines: Iterator[_Line | Block], width: int, select: Callable[[list[str]], Sequence[str]]
    ) -> Iterator[Row | BadRow | Block]:
        delimiter = self._dialect.delimiter
        for line in lines:
            if isinstance(line, Block):
                yield line
                continue
            number, raw, cut, _ = line
            if cut:
                yield BadRow(number, raw, RowTooLong(line=number, limit=LONGEST_ROW))
                continue
            plain = raw.isascii()
            text = raw.decode("ascii") if plain else self._text(number, raw)
            if isinstance(text, RefusedRow):
                yield BadRow(number, raw, text)
                continue
            values = text.split(delimiter)
            if len(values) != width or not raw:
                yield BadRow(number, raw, _wrong_width(number, raw, len(values), width))
            elif '"' in text and self._dialect.split(text) is None:
                problem = "a field begins with a quote, but the dataset is declared without quotes"
                yield BadRow(number, raw, StrayQuote(line=number, problem=problem))
            else:
                yield Row(number, select(values), plain, raw)

    def _quoted(
        self, lines: Iterator[_Line], width: int, select: Callable[[list[str]], Sequence[str]]
    ) -> Iterator[Row | BadRow]:
        delimiter = self._dialect.delimiter
        ahead: deque[_Line] = deque()
        while (line := ahead.popleft() if ahead else next(lines, None)) is not None:
            number, raw, cut, _ = line
            if cut:
                yield BadRow(number, raw, RowTooLong(line=number, limit=LONGEST_ROW))
                continue
            whole = raw
            values: list[str] | None
            plain = raw.isascii()
            text = raw.decode("ascii") if plain else self._text(number, raw)
            if isinstance(text, RefusedRow):
                yield BadRow(number, raw, text)
                continue
            if '"' not in text:
                values = text.split(delimiter)
            else:
                values = self._dialect.split(text)
                if values is None and self._declaration.multiline and text.count('"') % 2:
                    values, whole, plain = self._over_lines(line, ahead, lines)
                if values is None:
                    yield BadRow(number, raw, StrayQuote(line=number, problem="the quotes of the row make no sense"))
                    continue
            if len(values) != width or not raw:
                yield BadRow(number, whole, _wrong_width(number, raw, len(values), width))
            else:
                yield Row(number, select(values), plain, whole)

    def _over_lines(
        self, first: _Line, ahead: deque[_Line], lines: Iterator[_Line]
    ) -> tuple[list[str] | None, bytes, bool]:
        """A row whose quoted field goes on in the next lines. If it makes no sense, they are looked at on their own."""
        taken: list[_Line] = []
        whole, quotes = first.raw + first.end, first.raw.count(b'"')
        while quotes % 2 and len(taken) < MOST_LINES_OF_A_ROW and len(whole) <= LONGEST_ROW:
            line = ahead.popleft() if ahead else next(lines, None)
            if line is None:
                break
            taken.append(line)
            if line.cut:
                break
            quotes += line.raw.count(b'"')
            whole += line.raw + line.end if quotes % 2 else line.raw
        values = None
        if not quotes % 2 and len(whole) <= LONGEST_ROW:
            plain = whole.isascii()
            text = whole.decode("ascii") if plain else self._text(first.number, whole)
            if isinstance(text, str):
                values = self._dialect.split(text)
            if values is not None:
                return values, whole, plain
        ahead.extendleft(reversed(taken))
        return None, first.raw, False


def _wrong_width(number: int, raw: bytes, found: int, wanted: int) -> RefusedRow:
    return WrongColumns(line=number, found=found, wanted=wanted) if raw else BlankLine(line=number)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
