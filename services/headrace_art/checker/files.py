"""The lines of a dump, zipped or not, kept as they are so that a part of them can be written out again."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from headrace.errors import ConfigError


class DumpUnreadable(ConfigError):
    """The file {path} cannot be used: {problem}."""

    code = "dump-unreadable"


@dataclass(frozen=True)
class Line:
    """One row: its number in its member (the header is 1), its text, its cells by the names that were asked for."""

    number: int
    text: str
    row: Mapping[str, str | None]


class Dump:
    """A file of the nightly dump.

    Parameters:
        columns: the columns that are needed, whatever their case in the file.

    Raises DumpUnreadable where it is opened or read: no file, no such column, another encoding.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, encoding: str, delimiter: str) -> None:
        self.path, self.encoding = path, encoding
        self._columns, self._delimiter = columns, delimiter
        self.header = ""
        self.headers: set[str] = set()
        """Those of all members that were read so far."""

    def lines(self) -> Iterator[Line]:
        """Every row of every member; each member has a header of its own. Blank lines are left out."""
        try:
            for member in self._members():
                with member as text:
                    yield from self._rows(text)
        except (OSError, zipfile.BadZipFile, UnicodeError, LookupError) as error:
            raise DumpUnreadable(path=self.path, problem=_problem(error)) from error

    def _members(self) -> Iterator[AbstractContextManager[TextIO]]:
        if not zipfile.is_zipfile(self.path):
            yield self.path.open(encoding=self.encoding, newline="")
            return
        with zipfile.ZipFile(self.path) as archive:
            for name in archive.namelist():
                yield _text(archive, name, self.encoding)

    def _rows(self, text: TextIO) -> Iterator[Line]:
        header = text.readline().rstrip("\r\n")
        self.header = self.header or header
        self.headers.add(header)
        names = [name.strip().lower() for name in header.split(self._delimiter)]
        missing = [column for column in self._columns if column.lower() not in names]
        if missing:
            raise DumpUnreadable(path=self.path, problem=f"its header lacks {', '.join(missing)}")
        places = [(column, names.index(column.lower())) for column in self._columns]
        for number, raw in enumerate(text, 2):
            line = raw.rstrip("\r\n")
            if not line:
                continue
            cells = line.split(self._delimiter)
            row = {column: cells[place] if place < len(cells) else None for column, place in places}
            yield Line(number, line, row)


@contextmanager
def _text(archive: zipfile.ZipFile, name: str, encoding: str) -> Iterator[TextIO]:
    with archive.open(name) as raw, io.TextIOWrapper(raw, encoding, newline="") as text:
        yield text


def _problem(error: Exception) -> str:
    """What is wrong, without what stands in the file."""
    if isinstance(error, OSError):
        return error.strerror or "it cannot be read"
    if isinstance(error, UnicodeError):
        return f"it is not in the encoding {getattr(error, 'encoding', 'that was given')}"
    return str(error)
