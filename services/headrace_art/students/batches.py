"""What became of the rows of a batch, by the part of a file that they are of."""

from __future__ import annotations

from collections.abc import Iterable

from pyroaring import BitMap64

from headrace.errors import PermanentError
from headrace.events import Outcome
from headrace_art.accounting import FilePart
from headrace_art.students.deciding import Pending

Done = tuple[Pending, PermanentError | None]
"""A row and why ART did not save it, None if it did."""
Lines = dict[tuple[Outcome, str | None], BitMap64]
"""Lines by outcome and code."""

DELIVERED: tuple[Outcome, str | None] = ("delivered", None)


def by_part(rows: Iterable[Done]) -> dict[FilePart, list[Done]]:
    """The rows of each part."""
    parts: dict[FilePart, list[Done]] = {}
    part: FilePart | None = None
    for row in rows:
        if row[0].part is not part:
            part = row[0].part
            found = parts.setdefault(part, [])
        found.append(row)
    return parts


def lines_of(rows: Iterable[Done]) -> Lines:
    """The lines that were saved, and those that were not."""
    lines: dict[tuple[Outcome, str | None], list[int]] = {}
    for pending, problem in rows:
        outcome = DELIVERED if problem is None else ("dead_lettered", problem.code)
        lines.setdefault(outcome, []).append(pending.line)
    return {outcome: BitMap64(found) for outcome, found in lines.items()}
