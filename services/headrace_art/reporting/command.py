"""`headrace art report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.output import print_json, print_table
from headrace.cli.runtime import begin
from headrace.datasets.catalogue import Datasets
from headrace.jobs.ids import check_job_id
from headrace_art.client import ArtSettings
from headrace_art.loading.request import KIND, KIND_OF_RESENDING
from headrace_art.reporting.report import LoadReport, Reporter, write_rows, write_summary

KINDS = (KIND, KIND_OF_RESENDING)


def report(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help="Id of the load.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the summary there, as JSON and CSV: counts only.")
    ] = None,
    rejected: Annotated[
        bool,
        typer.Option(
            "--rejected",
            help="Also write each row that is not at ART, in the columns of ART's upload page, with its reason; and the"
            " students that are known and not in the dump. Personal data: readable by you only. Needs --out.",
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what became of every line of a load, from the log.

    Students that ART has and the dump does not name are counted, and never deleted. The rows themselves are kept on the
    log for two days, dead letters for thirty.

    Exit codes: 0 everything is at ART, 1 something failed or a file was refused, 3 there are dead letters or held
    students, 4 it is not done.
    """
    if rejected and out is None:
        raise typer.BadParameter("it needs --out DIR", param_hint="--rejected")
    session = begin(context)
    datasets = Datasets(session.settings.datasets.folder)
    reporter = Reporter(session.cluster(), datasets, KINDS)
    found = reporter.report(check_job_id(job))
    paths = [] if out is None else write_summary(found, out)
    if rejected and out is not None:
        mapper = reporter.mapper(session.sources.section("art", ArtSettings).values)
        rows = {name: reporter.rejects(job, name) for name in sorted({each.dataset for each in found.files})}
        paths += write_rows(found, rows, mapper, out)
    if json:
        print_json({**found.as_json(), "written": [str(path) for path in paths]})
    else:
        show(found)
        for path in paths:
            typer.echo(f"written: {path}")
    raise typer.Exit(found.exit_code)


def show(found: LoadReport) -> None:
    """The report for people."""
    typer.echo(f"{found.job}: {found.state}" + (f" ({found.reason})" if found.reason else ""))
    rows = []
    for each in found.files:
        said = "?" if each.rows is None else f"{each.rows}"
        rows.append((each.name, "rows", "", said))
        if each.refused is not None:
            rows.append(("", "refused", each.refused, ""))
        rows += [
            ("", outcome.replace("_", "-"), code or "", str(count))
            for (outcome, code), count in sorted(each.counts.items(), key=str)
        ]
        missing = found.absent.get(each.file)
        if missing is not None:
            rows.append(("", "known, not in this file", "never deleted", str(len(missing))))
    print_table(("file", "", "why", "number"), rows)
    for url in dict.fromkeys(url for each in found.files for url in each.batches):
        typer.echo(f"Batch status URL: {url}")
    if all(each.adds_up for each in found.files):
        typer.echo("every line is accounted for")
