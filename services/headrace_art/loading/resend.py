"""`headrace art resend`: students of a dump go to ART once more, whether they have changed or not."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.interrupts import OnInterrupt
from headrace.cli.runtime import begin
from headrace.cli.source_job import JobRequest, source_job
from headrace.datasets.catalogue import Datasets
from headrace.jobs.ids import check_job_id
from headrace_art.checker.files import Dump, DumpUnreadable, Line
from headrace_art.client import ArtSettings
from headrace_art.loading.command import FAN_OUT
from headrace_art.loading.job import load_under
from headrace_art.loading.request import GROUPS, KIND_OF_RESENDING, STUDENTS, LoadOptions
from headrace_art.loading.settings import ArtLoadSettings
from headrace_art.loading.watching import FilesShown
from headrace_art.reporting.report import Reporter, write_summary

SSID, SCHOOL = "SSID", "ResponsibleSchoolIdentifier"


def resend(
    context: typer.Context,
    students: Annotated[
        Path,
        typer.Option(
            "-f", "--studentfile", metavar="FILE", exists=True, dir_okay=False, help="Student file, zipped or not."
        ),
    ],
    everything: Annotated[bool, typer.Option("--all", help="Every student of the file.")] = False,
    ssids: Annotated[
        Path | None,
        typer.Option(
            "--ssid-list",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Those that are listed there, one SSID a line.",
        ),
    ] = None,
    schools: Annotated[
        list[str] | None, typer.Option("--school", metavar="CODE", help="The students of this school; repeatable.")
    ] = None,
    encoding: Annotated[str, typer.Option("-e", "--encoding", help="Of the file.")] = "latin-1",
    delimiter: Annotated[str, typer.Option("-d", "--delimiter", help="Of the file.")] = "^",
    job: Annotated[str | None, typer.Option(help="Id of the job; default: one with the time.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell how many students would be sent.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the summary there in the end, as JSON and CSV.")
    ] = None,
    on_interrupt: Annotated[
        OnInterrupt, typer.Option(help="What Ctrl-C does: leave the job to others, or stop it.")
    ] = OnInterrupt.DETACH,
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """Send students of a dump to ART once more, whether they have changed or not, with the schools confirmed last.

    For students that somebody changed at ART by hand, or whose school was missing. A job like a load, with its own
    books and report. ART's way of saving replaces the whole student, so accommodations that are stored there are lost.

    Exit codes: as of a load; 2 also if the file names none of the students that were asked for.
    """
    if sum((everything, ssids is not None, bool(schools))) != 1:
        raise typer.BadParameter("say which students: --all, --ssid-list or --school", param_hint="resend")
    session = begin(context, KIND_OF_RESENDING)
    wanted = None if ssids is None else frozenset(ssids.read_text("utf-8").split())
    dump = Dump(students, (SSID, SCHOOL), encoding=encoding, delimiter=delimiter)
    chosen = _chosen(dump, wanted, schools)
    if dry_run:
        count = sum(1 for _ in chosen)
        typer.echo(f"{count} rows would be sent")
        raise typer.Exit(0 if count else 2)
    name = check_job_id(job or f"{KIND_OF_RESENDING}-{datetime.now().astimezone():%Y%m%d-%H%M%S}")
    settings = session.sources.section("art_load", ArtLoadSettings).values
    session.sources.section("art", ArtSettings)
    part = _write(session.settings.state / "resend" / f"{name}.csv", dump, chosen)
    try:
        options = LoadOptions(
            day=datetime.now().astimezone().date(), students=part, local=True, encoding=encoding, delimiter=delimiter,
            entities="last", resend=True,
        )  # fmt: skip
        cluster = session.cluster()
        groups = {STUDENTS: GROUPS[STUDENTS]}
        request = JobRequest(KIND_OF_RESENDING, name, FAN_OUT, on_interrupt, json, groups)
        with source_job(context, session, cluster, request) as running:
            code = load_under(running, session, cluster, options, settings, FilesShown(running.report, options.source))
    finally:
        # It holds personal data, and is on the log.
        part.unlink(missing_ok=True)
    if report is not None:
        reporter = Reporter(cluster, Datasets(session.settings.datasets.folder), (KIND_OF_RESENDING,))
        for path in write_summary(reporter.report(name), report):
            running.report.note(f"written: {path}")
    raise typer.Exit(code)


def _chosen(dump: Dump, ssids: Collection[str] | None, schools: Collection[str] | None) -> Iterator[Line]:
    for line in dump.lines():
        ssid, school = (line.row[name] or "" for name in (SSID, SCHOOL))
        if ssids is not None and ssid.strip() not in ssids:
            continue
        if schools and school.strip() not in schools:
            continue
        yield line


def _write(path: Path, dump: Dump, chosen: Iterator[Line]) -> Path:
    """The chosen rows under the dump's header, readable by this user only. Raises DumpUnreadable."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    count = 0
    with path.open("w", encoding=dump.encoding, newline="") as out:
        for line in chosen:
            if not count:
                out.write(f"{dump.header}\n")
            out.write(f"{line.text}\n")
            count += 1
    problem = None
    if not count:
        problem = "it has none of the students that were asked for"
    elif len(dump.headers) > 1:
        problem = "its members have different headers; give them one after the other"
    if problem is not None:
        path.unlink()
        raise DumpUnreadable(path=dump.path, problem=problem)
    return path
