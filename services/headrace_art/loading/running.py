"""A load from its beginning to its exit code: the job, and the summary that is written in the end."""

from __future__ import annotations

from pathlib import Path

import typer

from headrace.cli.runtime import Session
from headrace.cli.source_job import JobRequest, source_job
from headrace.datasets.catalogue import Datasets
from headrace.jobs.assessment import Exit
from headrace.kafka.clients import Cluster
from headrace_art.loading.job import load_under
from headrace_art.loading.request import LoadOptions
from headrace_art.loading.settings import ArtLoadSettings
from headrace_art.loading.watching import FilesShown
from headrace_art.reporting.report import Reporter, write_summary


def run(
    context: typer.Context,
    session: Session,
    cluster: Cluster,
    request: JobRequest,
    options: LoadOptions,
    settings: ArtLoadSettings,
    report: Path | None,
) -> Exit:
    """Load under a job of its own, and write the summary into the folder `report`, if there is to be one."""
    with source_job(context, session, cluster, request) as running:
        shown = FilesShown(running.report, options.source)
        code = load_under(running, session, cluster, options, settings, shown)
    if report is not None:
        reporter = Reporter(cluster, Datasets(session.settings.datasets.folder), (request.kind,))
        for path in write_summary(reporter.report(running.job), report):
            running.report.note(f"written: {path}")
    if code in (Exit.FAILED, Exit.PUT_ASIDE):
        running.report.note(f"line by line: headrace art report {running.job} --out DIR --rejected")
    return code
