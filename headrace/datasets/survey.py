"""Looking a file through before anything of it is published: how many rows, which are bad, can it be trusted at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from headrace.datasets.blocks import Block, Made
from headrace.datasets.catalogue import Dataset
from headrace.datasets.content import LARGEST_CONTENT
from headrace.datasets.errors import RefusedRow, SuspectedUtf8, TooManyBadRows, WrongEncoding
from headrace.datasets.rows import BadRow, Row, Rows

LOOK_EVERY = 2000
"""Rows between two looks at whether to go on."""
FEW_SUSPECTS = 10


@dataclass(slots=True)
class Survey:
    """What is in a file: `good` and `bad` rows, lines in all, and the bad ones' reasons with an example of each."""

    good: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    first: dict[str, RefusedRow] = field(default_factory=dict)
    lines: int = 0
    members: int = 0
    extra: tuple[str, ...] = ()
    not_ascii: int = 0

    @property
    def rows(self) -> int:
        """Rows, good and bad: lines without headers, unless rows go over several lines."""
        return self.good + self.bad.total()


def checked(
    dataset: Dataset, file: BinaryIO, limit: int = LARGEST_CONTENT, look: Callable[[int], None] = lambda _: None
) -> Iterator[Row | BadRow]:
    """The rows of a file; those of which no record can be made are bad, too.

    Parameters:
        look: called from time to time with the number of lines so far; what it raises ends the reading.

    Raises a RefusedFile.
    """
    rows = Rows(dataset.declaration, limit)
    due = LOOK_EVERY
    for row in rows.read(file):
        due -= 1
        if not due:
            due = LOOK_EVERY
            look(rows.lines)
        yield _checked(dataset, row)


def records(dataset: Dataset, file: BinaryIO, limit: int = LARGEST_CONTENT) -> Iterator[Made | BadRow]:
    """The records of a file, and the rows that none can be made of.

    Raises a RefusedFile.
    """
    encoder = dataset.encoder
    for found in Rows(dataset.declaration, limit).blocks(file):
        if isinstance(found, Block):
            yield from found.records()
            continue
        row = _checked(dataset, found)
        if isinstance(row, BadRow):
            yield row
        else:
            line, values, plain, _ = row
            yield Made(line, encoder.wire_key(values, line), encoder.body(values, line, ascii_only=plain))


def _checked(dataset: Dataset, row: Row | BadRow) -> Row | BadRow:
    if isinstance(row, Row):
        try:
            dataset.encoder.check(row.values, row.line)
        except RefusedRow as error:
            return BadRow(row.line, row.raw, error)
    return row


def survey(
    dataset: Dataset,
    file: BinaryIO,
    limit: int = LARGEST_CONTENT,
    look: Callable[[int], None] = lambda _: None,
) -> Survey:
    """Read all of a file, checksums of archives included.

    Raises a RefusedFile if it cannot be trusted as a whole.
    """
    found = Survey()
    rows = Rows(dataset.declaration, limit)
    due = LOOK_EVERY
    for each in rows.blocks(file):
        due -= len(each.lines) if isinstance(each, Block) else 1
        if due <= 0:
            due = LOOK_EVERY
            look(rows.lines)
        if isinstance(each, Block):
            found.good += len(each.lines)
            found.not_ascii += each.not_ascii
            continue
        row = _checked(dataset, each)
        if isinstance(row, BadRow):
            code = row.error.code
            found.bad[code] += 1
            found.first.setdefault(code, row.error)
        else:
            found.good += 1
            found.not_ascii += not row.plain
    found.lines = rows.lines
    found.members = len(rows.headers)
    wanted = {column.name.casefold() for column in dataset.declaration.columns}
    found.extra = tuple(
        dict.fromkeys(name for header in rows.headers for name in header if name.casefold() not in wanted)
    )
    judge(dataset, found)
    return found


def judge(dataset: Dataset, found: Survey) -> None:
    """See whether so many bad rows leave a file that can be trusted.

    Raises WrongEncoding or TooManyBadRows.
    """
    declaration = dataset.declaration
    suspects = found.bad[SuspectedUtf8.code]
    if suspects > FEW_SUSPECTS and suspects > found.not_ascii:
        raise WrongEncoding(encoding=declaration.encoding, seems="UTF-8")
    bad = found.bad.total()
    if bad > declaration.rules.bad_rows and bad > declaration.rules.bad_share * found.rows:
        raise TooManyBadRows(bad=bad, rows=found.rows)
