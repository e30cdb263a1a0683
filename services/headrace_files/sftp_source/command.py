"""`headrace fetch`."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.cli import runtime
from headrace.cli.interrupts import OnInterrupt
from headrace.cli.source_job import JobRequest, SourceJob, source_job
from headrace.datasets.catalogue import Datasets, chunks_of
from headrace.families import Host, ServiceFactory, stage_named
from headrace.jobs.assessment import Exit
from headrace.jobs.evidence import read_evidence
from headrace_files.sftp_source.report import reporting
from headrace_files.sftp_source.reporting import Reporting
from headrace_files.sftp_source.service import SftpSource
from headrace_files.sftp_source.settings import SftpSourceSettings

SERVICE = "sftp_source"


def fetch(
    context: typer.Context,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH...", help="Files on the server; %Y%m%d and the like stand for the date."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="The server.")] = None,
    port: Annotated[int | None, typer.Option(help="Its port.")] = None,
    user: Annotated[str | None, typer.Option(help="User to log in as.")] = None,
    password_file: Annotated[Path | None, typer.Option(metavar="FILE", help="File with the password.")] = None,
    key_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Private key.")] = None,
    key_passphrase_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with the private key's passphrase.")
    ] = None,
    known_hosts: Annotated[Path | None, typer.Option(metavar="FILE", help="Known host keys.")] = None,
    fingerprint: Annotated[str | None, typer.Option(help="The host key's fingerprint, SHA256:….")] = None,
    dataset: Annotated[str | None, typer.Option(help="Dataset that the files belong to.")] = None,
    source: Annotated[str | None, typer.Option(help="Name of this sender on the log; default: this host's.")] = None,
    once: Annotated[bool, typer.Option("--once/--repeat", help="Look once, or again and again (see --every).")] = True,
    every: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Look again this often; implies --repeat.")
    ] = None,
    day: Annotated[
        str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="Fetch the files of that day; default: today.")
    ] = None,
    settle: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Fetch a file when it has been still for this long.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be fetched.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    job: Annotated[str | None, typer.Option(help="Keep books of what is sent under this id.")] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="SERVICES", help="The services that must have it all: csv_fanout. Keeps books."),
    ] = None,
    on_interrupt: Annotated[
        OnInterrupt, typer.Option(help="What Ctrl-C does to a job: leave it alone, or stop it.")
    ] = OnInterrupt.DETACH,
    metrics_port: Annotated[
        str | None, typer.Option(help="Port of /metrics and /healthz, auto, or 0 for none.")
    ] = None,
) -> None:
    """Fetch files from an sFTP server and send them, once or again and again.

    The server's key must be known. A file is fetched when it is still, under a temporary name, and goes on where it was
    after a loss; an archive is tested before it is sent. A version that is on the log is not fetched again.

    Exit code 0: all files are on the log; 1: one is missing, empty or damaged, or the server does not answer.
    """
    repeat = not once or every is not None
    overrides = {
        "paths": paths or None,
        "host": host,
        "port": port,
        "user": user,
        "password_file": password_file,
        "key_file": key_file,
        "key_passphrase_file": key_passphrase_file,
        "known_hosts": known_hosts,
        "fingerprint": fingerprint,
        "dataset": dataset,
        "source": source,
        "every": every,
        "settle": settle,
        "metrics_port": metrics_port if metrics_port is not None or repeat else "0",
    }
    session = runtime.begin(context, SERVICE)
    settings = session.sources.section(SERVICE, SftpSourceSettings, overrides).values
    wanted = None if day is None else _date(day)
    report = reporting(as_json=json)
    datasets = Datasets(session.settings.datasets.folder)
    made: list[SftpSource] = []

    def maker(of_job: str | None = None) -> ServiceFactory:
        def create(settings: Any, host: Host) -> SftpSource:
            around = Reporting(host.metrics, host.health)
            made.append(
                SftpSource(
                    settings, host.cluster, host.settings.state, datasets, once=not repeat, day=wanted, job=of_job,
                    report=report, reporting=around,
                )
            )  # fmt: skip
            return made[0]

        return create

    if dry_run:
        looking = SftpSource(settings, session.cluster(), session.settings.state, datasets, day=wanted, report=report)
        looking.look()
        raise typer.Exit(1 if looking.problems else 0)
    if job is None and to is None:
        runtime.serve(context, SERVICE, overrides, factory=maker())
        raise typer.Exit(1 if any(source.problems for source in made) and not repeat else 0)
    request = JobRequest(
        "fetch", job, to, on_interrupt, json, topic=chunks_of(settings.dataset, session.settings.datasets.folder).name
    )
    with source_job(context, session, session.cluster(), request) as running:
        if not running.sends:
            raise typer.Exit(running.leave())
        running.begin(standing=repeat)
        runtime.run_service(
            stage_named(SERVICE), SERVICE, session.settings, settings, session.cluster(), running.asked.leave,
            maker(running.job),
        )  # fmt: skip
        code = _finish(running, session.cluster(), repeat=repeat)
    raise typer.Exit(Exit.FAILED if made[0].problems and code is not Exit.DETACHED else code)


def _finish(job: SourceJob, cluster: Any, *, repeat: bool) -> Exit:
    if job.told_to_stop():
        return job.finish()
    if job.asked.leave.is_set() or repeat:
        return job.leave()
    job.announced_all(read_evidence(cluster, job.job).books.words()["announced"])
    return job.finish()


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no date like 2026-01-31", param_hint="--date") from error
