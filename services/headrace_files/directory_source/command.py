"""`headrace watch`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from headrace.cli import runtime
from headrace.cli.interrupts import OnInterrupt
from headrace.cli.source_job import JobRequest, source_job
from headrace.datasets.catalogue import chunks_of
from headrace.families import Host, stage_named
from headrace.jobs.assessment import Exit
from headrace.jobs.evidence import read_evidence
from headrace.kafka.clients import Cluster
from headrace_files.directory_source.console import Console
from headrace_files.directory_source.dry_run import show
from headrace_files.directory_source.service import DirectorySource
from headrace_files.directory_source.settings import DirectorySourceSettings
from headrace_files.openmsi.engine import refuse_books

SERVICE = "directory_source"


def watch(
    context: typer.Context,
    root: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Folder to watch, subfolders included.", show_default=False)
    ] = None,
    source: Annotated[str | None, typer.Option(help="Name of this sender on the log; default: the host's.")] = None,
    include: Annotated[
        list[str] | None, typer.Option(metavar="REGEX", help="Send only paths in which this is found; repeatable.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="REGEX", help="Leave out paths in which this is found; repeatable.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Name of the dataset that the files belong to.")] = None,
    settle: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Take a file when it has been still for this long.")
    ] = None,
    new_only: Annotated[
        bool | None, typer.Option("--new-only", help="Leave out the files that are there at the start.")
    ] = None,
    polling: Annotated[
        bool | None, typer.Option("--polling", help="Only scan, use no events: for network mounts.")
    ] = None,
    poll_every: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Time between scans with --polling.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Send what is there, wait for delivery, and end.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, and send nothing.")] = False,
    threads: Annotated[int | None, typer.Option("--n_threads", "--threads", help="Files read in parallel.")] = None,
    chunk_size: Annotated[
        str | None, typer.Option("--chunk_size", "--chunk-size", metavar="SIZE", help="Bytes of a frame: 2 to the n.")
    ] = None,
    queue_messages: Annotated[
        int | None,
        typer.Option("--queue_max_size", "--queue-messages", help="Messages that may be under way to Kafka."),
    ] = None,
    update_seconds: Annotated[
        float, typer.Option("--update_seconds", "--update-seconds", help='Print "." this often; -1 = never.')
    ] = -1,
    job: Annotated[
        str | None, typer.Option(help="Keep books of what is sent under this id: a standing job, unless --once.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="SERVICES", help="The services that must have it all, with commas: assembler,archiver. Keeps books."
        ),
    ] = None,
    on_interrupt: Annotated[
        OnInterrupt, typer.Option(help="What Ctrl-C does to a job: leave it alone, or stop it.")
    ] = OnInterrupt.DETACH,
    metrics_port: Annotated[
        str | None, typer.Option(help="Port of /metrics and /healthz, auto, or 0 for none.")
    ] = None,
    form: Annotated[
        Literal["headrace", "openmsi", "openmsi-9"] | None,
        typer.Option("--format", help="Layout: ours, or that of OpenMSIStream (-9: of before April 2026)."),
    ] = None,
    topic: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --format openmsi: OpenMSIStream's topic, as it is called.")
    ] = None,
) -> None:
    """Send every file of a folder, and every one that is added, until SIGTERM or Ctrl-C.

    What was sent is on the log, so the command can be killed and started again at any time: it goes on in the middle
    of a file. While it runs, "check" on standard input shows how far it is, "quit" finishes what is begun and ends.

    With --job or --to it is a job, which runs its own copies of the services (unless services.external is set). It
    stands until `headrace jobs stop`, its books balancing for every file that is finished; with --once it ends when
    they balance.
    """
    overrides = {
        "root": root,
        "source": source,
        "include": include or None,
        "exclude": exclude or None,
        "new_only": new_only,
        "dataset": dataset,
        "settle": settle,
        "polling": polling,
        "poll_every": poll_every,
        "threads": threads,
        "chunk_size": chunk_size,
        "queue_messages": queue_messages,
        "metrics_port": metrics_port if metrics_port is not None or not (once or dry_run) else "0",
        "format": form,
        "topic": topic,
    }
    if form is not None and form != "headrace":
        refuse_books(form, {"--job": job, "--to": to, "--dataset": dataset})
    if dry_run:
        session = runtime.begin(context, SERVICE)
        settings = session.sources.section(SERVICE, DirectorySourceSettings, overrides).values
        show(settings, session.cluster(), chunks_of(settings.dataset, session.settings.datasets.folder))
        return
    if job is not None or to is not None:
        request = JobRequest("watch", job, to, on_interrupt, json=False)
        raise typer.Exit(run_job(context, overrides, update_seconds, request, once=once))
    run(context, overrides, update_seconds, once=once)


def run_job(
    context: typer.Context, overrides: Mapping[str, object], update_seconds: float, request: JobRequest, *, once: bool
) -> int:
    """Run the watcher as a job, and return what to tell scripts."""
    session = runtime.begin(context, SERVICE)
    settings = session.sources.section(SERVICE, DirectorySourceSettings, overrides).values
    cluster = session.cluster()
    console = Console(update_seconds)
    made: list[DirectorySource] = []
    topic = chunks_of(settings.dataset, session.settings.datasets.folder)
    with source_job(context, session, cluster, replace(request, topic=topic.name)) as job:
        if not job.sends:
            return job.leave()

        def create(settings: Any, host: Host) -> DirectorySource:
            made.append(DirectorySource.hosted(settings, host, once=once, observers=(console,), job=job.job))
            return made[0]

        job.begin(standing=not once)
        console.start()
        entry = stage_named(SERVICE)
        runtime.run_service(entry, SERVICE, session.settings, settings, cluster, job.asked.leave, create)
        typer.echo(made[0].summary())
        if job.told_to_stop():
            return job.finish()
        if job.asked.leave.is_set() or not once:
            return job.leave()
        job.announced_all(announced_under(cluster, job.job))
        code = job.finish()
    return Exit.FAILED if made[0].problems and code is not Exit.DETACHED else code


def announced_under(cluster: Cluster, job: str) -> int:
    """How many versions the log says were announced under a job."""
    return read_evidence(cluster, job).books.words()["announced"]


def run(context: typer.Context, overrides: Mapping[str, object], update_seconds: float, *, once: bool) -> None:
    """Run the watcher in the foreground. Exits with 1 if `once` left something unsent."""
    console = Console(update_seconds)
    made: list[DirectorySource] = []

    def create(settings: Any, host: Host) -> DirectorySource:
        made.append(DirectorySource.hosted(settings, host, once=once, observers=(console,)))
        return made[0]

    console.start()
    runtime.serve(context, SERVICE, overrides, factory=create)
    for source in made:
        typer.echo(source.summary())
        if once and source.problems:
            raise typer.Exit(1)
