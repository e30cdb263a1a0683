"""`headrace art check`."""

from __future__ import annotations

import asyncio
import datetime
import itertools
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.output import print_json, print_table
from headrace.cli.runtime import begin
from headrace_art.checker.comparing import Comparer, Comparison, Record
from headrace_art.checker.files import Dump
from headrace_art.checker.writing import Report
from headrace_art.client import ArtClient, ArtSettings
from headrace_art.client.patience import Patience
from headrace_art.client.timing import SystemTime
from headrace_art.mapping import REQUIRED_COLUMNS, StudentMapper
from headrace_art.schools import COLUMNS

_DEADLINE = 600.0
"""Seconds that a call may stay unwell."""


def check(
    context: typer.Context,
    schools: Annotated[
        Path,
        typer.Option("-c", "--schoolfile", metavar="FILE", help="Schools file, zipped or not.", show_default=False),
    ],
    students: Annotated[
        Path | None, typer.Option("-f", "--studentfile", metavar="FILE", help="Student file; without it only schools.")
    ] = None,
    number: Annotated[int | None, typer.Option("-n", "--number", help="At most this many students.", min=1)] = None,
    start_line: Annotated[
        int, typer.Option("-s", "--start-line", help="First line of each member to look at.", min=1)
    ] = 1,
    encoding: Annotated[str, typer.Option("-e", "--encoding", help="Of both files.")] = "latin-1",
    delimiter: Annotated[str, typer.Option("-d", "--delimiter", help="Of both files.")] = "^",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the lists of what is missing.")] = Path(),
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the dump with ART: what is missing there, what differs, who is without a school. Changes nothing.

    Run it when ART's queues are empty. Missing rows are written as they stand in the dump, so that they can be loaded
    again. ART does not show its internal links: a student counts as unlinked when its district or school does not exist
    at ART now. Exit code 1 if anything is missing or different.
    """
    session = begin(context)
    settings = session.sources.section("art", ArtSettings).values
    school_file = Dump(schools, COLUMNS, encoding=encoding, delimiter=delimiter)
    student_file = None
    if students is not None:
        student_file = Dump(students, REQUIRED_COLUMNS, encoding=encoding, delimiter=delimiter)
    stamp = f"{datetime.datetime.now().astimezone():%Y%m%d_%H%M%S}"
    with Report(out, stamp, school_file, student_file) as report:
        result = asyncio.run(_compare(settings, school_file, student_file, report, start_line, number))
    if json:
        print_json({"agrees": result.agrees, "counts": result.summary(), "files": [str(path) for path in report.paths]})
    else:
        rows = [[kind, verdict, count] for (kind, verdict), count in sorted(result.counts.items())]
        print_table(["what", "is", "number"], rows)
        for path in report.paths:
            typer.echo(f"written: {path}")
    raise typer.Exit(0 if result.agrees else 1)


async def _compare(
    settings: ArtSettings, schools: Dump, students: Dump | None, record: Record, start_line: int, number: int | None
) -> Comparison:
    time = SystemTime()
    async with ArtClient(settings, time=time) as client:
        comparer = Comparer(client, Patience(time, _DEADLINE), record, _show)
        known = await comparer.entities(list(schools.lines()))
        if students is not None:
            lines = (line for line in students.lines() if line.number >= start_line)
            mapper = StudentMapper(settings.mapping, known)
            await comparer.students(itertools.islice(lines, number), mapper)
    return comparer.result


def _show(kind: str, number: int) -> None:
    typer.echo(f"{number} {kind} compared", err=True)
