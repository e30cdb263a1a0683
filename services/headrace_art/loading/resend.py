"""`headrace art resend`: students of a dump go to ART once more, whether they have changed or not."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.interrupts import OnInterrupt
from headrace.cli.runtime import Session, begin
from headrace.cli.source_job import JobRequest
from headrace.datasets.catalogue import Datasets
from headrace.datasets.selection import Selection
from headrace.jobs.ids import check_job_id
from headrace.kafka.clients import Cluster
from headrace.proof.copying import copy_out
from headrace_art.checker.files import Dump, DumpUnreadable, Line
from headrace_art.client import ArtSettings
from headrace_art.loading import options as shared
from headrace_art.loading.command import FAN_OUT
from headrace_art.loading.past import student_file
from headrace_art.loading.request import GROUPS, KIND_OF_RESENDING, STUDENTS, LoadOptions
from headrace_art.loading.running import run
from headrace_art.loading.settings import ArtLoadSettings

SSID, SCHOOL = "SSID", "ResponsibleSchoolIdentifier"


def resend(
    context: typer.Context,
    students: Annotated[
        Path | None,
        typer.Option(
            "-f",
            "--studentfile",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Student file, zipped or not; default: that of the last load, from the log.",
        ),
    ] = None,
    of: Annotated[
        str | None,
        typer.Option("--of", metavar="JOB", help="The student file of this load, from the log that keeps it two days."),
    ] = None,
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
    encoding: shared.Encoding = None,
    delimiter: shared.Delimiter = None,
    job: Annotated[str | None, typer.Option(help="Id of the job; default: one with the time.")] = None,
    dry_run: Annotated[
        bool, typer.Option("-y", "--dryrun", "--dry-run", help="Only tell how many students would be sent.")
    ] = False,
    report: shared.Report = None,
    on_interrupt: shared.Interrupt = OnInterrupt.DETACH,
    json: shared.Json = False,
) -> None:
    """Send students of a dump to ART once more, whether they have changed or not, with the schools confirmed last.

    For students that somebody changed at ART by hand, or whose school was missing. A job like a load, with its own
    books and report. ART's way of saving replaces the whole student, so accommodations that are stored there are lost.

    Exit codes: as of a load; 2 also if the file names none of the students that were asked for.
    """
    if sum((everything, ssids is not None, bool(schools))) != 1:
        raise typer.BadParameter("say which students: --all, --ssid-list or --school", param_hint="resend")
    if students is not None and of is not None:
        raise typer.BadParameter("the file is either here or on the log", param_hint="--of")
    session = begin(context, KIND_OF_RESENDING)
    wanted = None if ssids is None else frozenset(ssids.read_text("utf-8").split())
    name = check_job_id(job or f"{KIND_OF_RESENDING}-{datetime.now().astimezone():%Y%m%d-%H%M%S}")
    settings = session.sources.section("art_load", ArtLoadSettings).values
    session.sources.section("art", ArtSettings)
    cluster = session.cluster()
    folder = session.settings.state / "resend"
    with _private(folder / f"{name}.dump") as copy, _private(folder / f"{name}.csv") as part:
        found = _Source.of(session, cluster, students, of, copy)
        encoding, delimiter = encoding or found.encoding, delimiter or found.delimiter
        dump = Dump(found.path, (SSID, SCHOOL), encoding=encoding, delimiter=delimiter)
        chosen = _chosen(dump, wanted, schools)
        if dry_run:
            count = sum(1 for _ in chosen)
            typer.echo(f"{count} rows of {found.name} would be sent")
            raise typer.Exit(0 if count else 2)
        _write(part, dump, chosen, found.name)
        options = LoadOptions(
            day=datetime.now().astimezone().date(), students=part, local=True, encoding=encoding, delimiter=delimiter,
            entities="last", resend=True,
        )  # fmt: skip
        groups = {STUDENTS: GROUPS[STUDENTS]}
        request = JobRequest(KIND_OF_RESENDING, name, FAN_OUT, on_interrupt, json, groups)
        code = run(context, session, cluster, request, options, settings, report)
    raise typer.Exit(code)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the rows are, what users call it, and how it is read unless they say otherwise."""

    path: Path
    name: str
    encoding: str
    delimiter: str

    @classmethod
    def of(cls, session: Session, cluster: Cluster, given: Path | None, job: str | None, copy: Path) -> _Source:
        """The file that was given, or a copy of one that is on the log. Raises NoStudentFile, BytesGone."""
        declared = Datasets(session.settings.datasets.folder)[STUDENTS].declaration
        if given is not None:
            return cls(given, str(given), declared.encoding, declared.delimiter)
        event = student_file(cluster, job)
        said = Selection.of(copy_out(cluster, event, copy))
        name = f"{event.path.decode('utf-8', 'backslashreplace')} of {event.job}"
        if said.partial:
            raise DumpUnreadable(path=name, problem="that load took only some of its rows; give the file with -f")
        return cls(copy, name, said.encoding or declared.encoding, said.delimiter or declared.delimiter)


def _chosen(dump: Dump, ssids: Collection[str] | None, schools: Collection[str] | None) -> Iterator[Line]:
    for line in dump.lines():
        ssid, school = (line.row[name] or "" for name in (SSID, SCHOOL))
        if ssids is not None and ssid.strip() not in ssids:
            continue
        if schools and school.strip() not in schools:
            continue
        yield line


@contextmanager
def _private(path: Path) -> Iterator[Path]:
    """A file that only this user can read, and that is gone afterwards: it holds personal data, which is on the log."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _write(path: Path, dump: Dump, chosen: Iterator[Line], name: str) -> None:
    """The chosen rows under the dump's header. Raises DumpUnreadable."""
    count = 0
    with path.open("w", encoding=dump.encoding, newline="") as out:
        for line in chosen:
            if not count:
                out.write(f"{dump.header}\n")
            out.write(f"{line.text}\n")
            count += 1
    if not count:
        raise DumpUnreadable(path=name, problem="it has none of the students that were asked for")
    if len(dump.headers) > 1:
        raise DumpUnreadable(path=name, problem="its members have different headers; give them one after the other")
