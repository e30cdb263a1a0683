"""How commands show what they found: a table on a terminal or in a pipe, JSON on demand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import typer


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as they need to be; the last one is not padded. Numbers stand to the right."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(each) for each in column) for column in zip(columns, *texts, strict=True)]
    numeric = [all(isinstance(row[index], int | float) for row in rows) for index in range(len(columns))]
    for cells in ([*columns], *texts):
        line = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        ]
        typer.echo("  ".join(line).rstrip())
