"""The schools file: what it says of districts and schools. Source: reference art 2.2, 2.6."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from headrace_art.mapping.values import school_key

COLUMNS = ("County-District Code", "School Code", "Auth CDS Code", "District Name", "School Name")
"""The columns that are needed; only names matter."""


class SchoolRow(NamedTuple):
    """A row, without blanks around its values."""

    district: str
    code: str
    cds: str
    district_name: str
    name: str

    @classmethod
    def of(cls, row: Mapping[str, str | None]) -> SchoolRow:
        """From the texts by column; a column that is missing is blank."""
        return cls(*((row.get(column) or "").strip() for column in COLUMNS))

    @property
    def is_district(self) -> bool:
        """Whether the row stands for a district; it is a school as well."""
        return bool(self.district) and self.district == self.code

    @property
    def key(self) -> str:
        """What students are matched by."""
        return school_key(self.district, self.code)


def lookup(rows: Iterable[SchoolRow]) -> dict[str, str]:
    """ART's ids of schools by `school_key`. A row without an id is left out; of equal keys the last one counts."""
    return {row.key: row.cds for row in rows if row.cds}
