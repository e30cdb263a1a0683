"""Another dialect, or a part of the rows, for one file only: what its sender says in the frame's `meta`.

A dataset's declaration says how its files are read. Who sends one that is different says so with the file, so that
every copy of the fan-out reads it alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from headrace.datasets.blocks import Made
from headrace.datasets.catalogue import Dataset
from headrace.datasets.errors import RefusedFile
from headrace.datasets.rows import BadRow, Row

ENCODING, DELIMITER, FIRST_LINE, MOST_ROWS, RESEND = (
    "csv.encoding", "csv.delimiter", "csv.first-line", "csv.most-rows", "records.resend"
)  # fmt: skip
RESEND_HEADER = "hr-resend"
"""Header of records that are to be delivered whether they have changed or not."""

Either = TypeVar("Either", bound=Row | BadRow | Made)


class UnusableSelection(RefusedFile):
    """The file's sender asks for {name} in a way that makes no sense: {problem}."""

    code = "unusable-selection"


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a file is read, and how.

    Parameters:
        encoding, delimiter: instead of the dataset's own.
        first_line: rows before this line are left out; lines are counted through, the header is line 1.
        most_rows: no more rows than this, good or bad.
        resend: what reads the records is to deliver them even if nothing has changed.
    """

    encoding: str | None = None
    delimiter: str | None = None
    first_line: int = 1
    most_rows: int | None = None
    resend: bool = False

    @classmethod
    def of(cls, meta: Mapping[str, str]) -> Selection:
        """What a frame says. Raises UnusableSelection."""
        return cls(
            encoding=meta.get(ENCODING),
            delimiter=meta.get(DELIMITER),
            first_line=_number(meta, FIRST_LINE) or 1,
            most_rows=_number(meta, MOST_ROWS),
            resend=meta.get(RESEND) == "true",
        )

    @property
    def meta(self) -> dict[str, str]:
        """The same for a frame."""
        said = {
            ENCODING: self.encoding,
            DELIMITER: self.delimiter,
            FIRST_LINE: str(self.first_line) if self.first_line > 1 else None,
            MOST_ROWS: None if self.most_rows is None else str(self.most_rows),
            RESEND: "true" if self.resend else None,
        }
        return {name: value for name, value in said.items() if value is not None}

    @property
    def partial(self) -> bool:
        """Whether the rows are not all that there are: nobody may conclude anything from one that is missing."""
        return self.first_line > 1 or self.most_rows is not None or self.resend

    def dataset(self, dataset: Dataset) -> Dataset:
        """The dataset as this file is to be read. Raises UnusableSelection."""
        if self.encoding is None and self.delimiter is None:
            return dataset
        try:
            return dataset.in_dialect(self.encoding, self.delimiter)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            # Its own words would quote what the sender said.
            raise UnusableSelection(name=".".join(map(str, first["loc"])), problem="no dataset can have it") from error

    def rows(self, rows: Iterable[Either]) -> Iterator[Either]:
        """Those of the rows that are read."""
        left = self.most_rows
        for row in rows:
            if row.line < self.first_line:
                continue
            if left is not None:
                if not left:
                    return
                left -= 1
            yield row


def _number(meta: Mapping[str, str], name: str) -> int | None:
    text = meta.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise UnusableSelection(name=name, problem="it is no number")
    return int(text)
