"""`headrace upload`."""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from headrace.chunks.frames import DEFAULT_CHUNK
from headrace.cli import runtime
from headrace.cli.interrupts import OnInterrupt
from headrace.cli.source_job import JobRequest, source_job
from headrace.config.units import parse_duration, parse_size
from headrace.datasets.catalogue import chunks_of
from headrace.topics import CHUNKS_PERSONAL
from headrace_files.openmsi.engine import abroad, refuse_books
from headrace_files.sending.errors import NeverAssembled, WrongOption
from headrace_files.sending.sender import Options
from headrace_files.sending.snapshot import printable
from headrace_files.upload.files import items
from headrace_files.upload.job import upload_under
from headrace_files.upload.report import reporting
from headrace_files.upload.service import Upload


class Wait(StrEnum):
    """What an upload waits for."""

    ACKNOWLEDGED = "acknowledged"
    ASSEMBLED = "assembled"


def upload(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files to send.", show_default=False)],
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the path relative to this folder; else only the name.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Name of this sender on the log; default: the host's.")] = None,
    wait: Annotated[
        Wait, typer.Option(help="Return when the log has everything, or when an assembler has rebuilt it.")
    ] = Wait.ACKNOWLEDGED,
    sink: Annotated[str | None, typer.Option(help="The assembler to wait for; default: the first to answer.")] = None,
    timeout: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Wait no longer than this; exit code 4 if only receipts miss."),
    ] = None,
    threads: Annotated[int, typer.Option("--n_threads", "--threads", min=1, help="Files read in parallel.")] = 3,
    chunk_size: Annotated[
        str, typer.Option("--chunk_size", "--chunk-size", metavar="SIZE", help="Bytes of a frame: 2 to the n.")
    ] = str(DEFAULT_CHUNK),
    queue_messages: Annotated[
        int,
        typer.Option("--queue_max_size", "--queue-messages", min=1, help="Messages that may be under way to Kafka."),
    ] = 3000,
    dataset: Annotated[str | None, typer.Option(help="Name of the dataset that the files belong to.")] = None,
    job: Annotated[
        str | None, typer.Option(help="Keep books of this upload under this id, and follow them until they balance.")
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
    form: Annotated[
        Literal["headrace", "openmsi", "openmsi-9"],
        typer.Option("--format", help="Layout: ours, or that of OpenMSIStream (-9: of before April 2026)."),
    ] = "headrace",
    topic: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --format openmsi: OpenMSIStream's topic, as it is called.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, and send nothing.")] = False,
) -> None:
    """Send files once and wait until they have arrived.

    With --job or --to, the upload is a job: it runs its own copies of the services (unless services.external is set),
    which share their work with all others, and ends when the books of every service balance. The same job started
    twice does the work once.

    With --format openmsi, the files go to a topic of OpenMSIStream for its own readers, and there are no receipts.

    Exit codes: 0 all arrived, 1 something failed or was not sent, 2 wrong usage or settings, 3 a receiver put something
    aside, 4 not every receipt came in time, or Ctrl-C left the job to others.
    """
    found = items(files, root)
    options = Options(
        source=source or platform.node(),
        chunk=size_option("--chunk_size", chunk_size),
        threads=threads,
        most_messages=queue_messages,
        dataset=dataset,
        abroad=abroad(form, topic),
    )
    if options.abroad is not None:
        refuse_books(form, {"--job": job, "--to": to, "--dataset": dataset, "--wait assembled": wait is Wait.ASSEMBLED})
    seconds = None if timeout is None else seconds_option("--timeout", timeout)
    if dry_run:
        for item in found:
            typer.echo(f"{item.size:>15,}  {printable(item.path)}")
        typer.echo(f"{len(found)} files, {sum(item.size for item in found):,} bytes would be sent.")
        return
    session = runtime.begin(context, "upload")
    chunks = chunks_of(dataset, session.settings.datasets.folder)
    if chunks == CHUNKS_PERSONAL and wait is Wait.ASSEMBLED:
        raise NeverAssembled(dataset=dataset)
    options = replace(options, topic=chunks)
    cluster = session.cluster()

    def make(of_job: str | None = None) -> Upload:
        return Upload(
            cluster,
            session.settings.state,
            replace(options, job=of_job),
            reporting(as_json=json),
            wait_assembled=wait is Wait.ASSEMBLED,
            sink=sink,
            timeout=seconds,
        )

    if job is None and to is None:
        with runtime.stopping(threading.Event()) as stop:
            raise typer.Exit(make().run(found, stop))
    request = JobRequest("upload", job, to, on_interrupt, json, topic=chunks.name)
    with source_job(context, session, cluster, request) as running, _timer(seconds, running.asked.leave):
        code = upload_under(running, cluster, found, options, lambda: make(running.job))
    raise typer.Exit(code)


@contextmanager
def _timer(seconds: float | None, late: threading.Event) -> Iterator[None]:
    """Set `late` after some time, if there is a limit."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, late.set)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def size_option(option: str, value: str) -> int:
    """Bytes. Raises WrongOption."""
    size = _parsed(parse_size, value)
    if not isinstance(size, int):
        raise WrongOption(option=option, value=value, kind="size", examples="262144, 256KiB, 1MiB")
    return size


def seconds_option(option: str, value: str) -> float:
    """Seconds. Raises WrongOption."""
    duration = _parsed(parse_duration, value)
    if not isinstance(duration, timedelta):
        raise WrongOption(option=option, value=value, kind="duration", examples="30, 90s, 5m")
    return duration.total_seconds()


def _parsed(parse: Callable[[object], object], value: str) -> object:
    try:
        return parse(value)
    except ValueError:
        return None
