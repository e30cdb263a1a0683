"""`headrace art load`."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from headrace.cli.interrupts import OnInterrupt, interrupts
from headrace.cli.job_report import job_reporting
from headrace.cli.output import print_json, print_table
from headrace.cli.runtime import Session, begin
from headrace.cli.source_job import JobRequest
from headrace.datasets.errors import RefusedFile
from headrace.jobs.assessment import Exit
from headrace.kafka.clients import Cluster
from headrace_art.client import ArtSettings
from headrace_art.loading import options as shared
from headrace_art.loading.dry_run import dry_run
from headrace_art.loading.request import GROUPS, KIND, LoadOptions
from headrace_art.loading.running import run
from headrace_art.loading.settings import ArtLoadSettings
from headrace_art.loading.watching import FilesShown

FAN_OUT = "csv_fanout"


class WhichEntities(StrEnum):
    """Which schools the students of a load are sent to."""

    JOB = "job"
    LAST = "last"


def load(
    context: typer.Context,
    students: Annotated[
        Path | None,
        typer.Option(
            "-f",
            "--studentfile",
            metavar="FILE",
            help="With --localonly the student file; else where a copy of what is fetched is kept.",
        ),
    ] = None,
    schools: Annotated[
        Path | None, typer.Option("-c", "--schoolfile", metavar="FILE", help="The same for the schools file.")
    ] = None,
    remote: Annotated[
        str | None,
        typer.Option("-r", "--remotepath", metavar="PATH", help="Student file on the server; default: as set."),
    ] = None,
    offset: Annotated[
        int | None,
        typer.Option(
            "-o",
            "--offset",
            metavar="BYTE",
            min=0,
            help="Fetch the student file again from this byte; 0 = from its beginning. Without it a fetch that was"
            " broken off goes on by itself, where the file is surely the same.",
        ),
    ] = None,
    local: Annotated[bool, typer.Option("-l", "--localonly", help="No server: the files are here.")] = False,
    encoding: shared.Encoding = None,
    delimiter: shared.Delimiter = None,
    start_line: Annotated[
        int,
        typer.Option(
            "-s",
            "--csv_start_line",
            "--start-line",
            metavar="LINE",
            min=1,
            help="First line of the student file whose row is loaded; the header is line 1, and is always read.",
        ),
    ] = 1,
    number: Annotated[
        int | None, typer.Option("-n", "--number", min=1, help="Load at most this many students, from that line on.")
    ] = None,
    day: Annotated[
        str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="Load the files of that night; default: today's.")
    ] = None,
    entities: Annotated[
        WhichEntities,
        typer.Option(help="Load the schools first, or take those that ART confirmed last and load students only."),
    ] = WhichEntities.JOB,
    dry: Annotated[
        bool,
        typer.Option(
            "-y",
            "--dryrun",
            "--dry-run",
            help="Fetch, log in, and tell what would be done with each line; write nothing.",
        ),
    ] = False,
    job: Annotated[
        str | None,
        typer.Option(help="Id of the load; default: one that follows from the night and the options above."),
    ] = None,
    report: shared.Report = None,
    on_interrupt: shared.Interrupt = OnInterrupt.DETACH,
    json: shared.Json = False,
) -> None:
    """Load the nightly dump: districts and schools, then the students that are new or have changed.

    The load is a job: it ends when every line of both files is accounted for. It runs its own copies of the services,
    unless services.external is set; the same load started twice does the work once.

    Exit codes: 0 everything is at ART or was there, 1 something failed or a file was refused, 2 wrong usage or
    settings, 3 done, with dead letters or held students, 4 left with Ctrl-C.
    """
    session = begin(context, KIND)
    settings = session.sources.section("art_load", ArtLoadSettings).values
    # What is wrong with them is better known before anything is sent.
    session.sources.section("art", ArtSettings)
    options = LoadOptions(
        day=_day(day), students=students, schools=schools, remote=remote, offset=offset, local=local,
        encoding=encoding, delimiter=delimiter, start_line=start_line, most=number,
        entities=entities.value,
    )  # fmt: skip
    cluster = session.cluster()
    if dry:
        _dry_run(session, cluster, options, settings, json)
    request = JobRequest(KIND, job or options.job(settings), FAN_OUT, on_interrupt, json, GROUPS)
    raise typer.Exit(run(context, session, cluster, request, options, settings, report))


def _dry_run(
    session: Session, cluster: Cluster, options: LoadOptions, settings: ArtLoadSettings, json: bool
) -> NoReturn:
    with interrupts(OnInterrupt.DETACH) as asked:
        shown = job_reporting(json=json)
        try:
            found = dry_run(session, cluster, options, settings, FilesShown(shown, options.source), asked.leave)
        except RefusedFile as error:
            shown.note(f"refused as a whole ({error.code}): {error}")
            raise typer.Exit(Exit.FAILED) from error
    if json:
        print_json(found.as_json())
    else:
        for check in found.checks:
            typer.echo(f"{'ok' if check.well else 'FAILED'}  {check.what}: {check.detail}")
        rows = [(each["dataset"], each["would_be"], each["code"] or "", each["number"]) for each in found.as_json()]
        print_table(("dataset", "would be", "why", "number"), rows)
        typer.echo("Nothing was written, neither to ART nor to the log.")
    raise typer.Exit(found.exit_code)


def _day(text: str | None) -> date:
    if text is None:
        return datetime.now().astimezone().date()
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no date like 2026-01-31", param_hint="--date") from error
