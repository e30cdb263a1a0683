"""`headrace broker`: Apache Kafka on this machine, for those who have no cluster."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from headrace.broker import EmbeddedBroker, Status
from headrace.cli.runtime import begin
from headrace.errors import ConfigError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Run Apache Kafka on this machine.")

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Its folder, data included; else `broker` in the state folder."),
]

_MEBIBYTE = 1024 * 1024


class NotConfirmed(ConfigError):
    """`headrace broker reset` removes every topic below {folder} and cannot be undone; say --yes if you mean it."""

    code = "not-confirmed"


@app.command()
def start(
    context: typer.Context,
    data: Data = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="TCP port on 127.0.0.1; else broker.port.")] = None,
    fast_start: Annotated[
        bool, typer.Option("--fast-start", help="Answer a little earlier, then be slower: for tests.")
    ] = False,
    log_level: Annotated[
        Literal["ERROR", "WARN", "INFO", "DEBUG"], typer.Option(help="How much the broker writes to its own log.")
    ] = "INFO",
) -> None:
    """Start the broker unless it runs, and return when it answers."""
    folder = _folder(context, data)
    own = begin(context).settings.broker
    heap = own.heap // _MEBIBYTE
    broker = EmbeddedBroker(folder, port or own.port, heap_mebibytes=heap, fast_start=fast_start, log_level=log_level)
    if broker.status().answering:
        typer.echo(f"Kafka already answers on {broker.bootstrap} (process {broker.pid}).")
        return
    begun = time.monotonic()
    broker.start()
    seconds = time.monotonic() - begun
    typer.echo(f"Kafka answers on {broker.bootstrap} after {seconds:.1f} s (process {broker.pid}, data in {folder}).")


@app.command()
def stop(context: typer.Context, data: Data = None) -> None:
    """Stop the broker; its topics are kept."""
    folder = _folder(context, data)
    typer.echo("Kafka has stopped." if EmbeddedBroker(folder).stop() else f"No broker runs on {folder}.")


@app.command()
def status(
    context: typer.Context,
    data: Data = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of words.")] = False,
) -> None:
    """Tell whether the broker runs; exit code 1 if it does not answer."""
    folder = _folder(context, data)
    found = EmbeddedBroker(folder).status()
    typer.echo(json.dumps({**asdict(found), "data": str(folder)}) if as_json else _in_words(found, folder))
    if not found.answering:
        raise typer.Exit(1)


@app.command()
def reset(
    context: typer.Context,
    data: Data = None,
    yes: Annotated[bool, typer.Option("--yes", help="Yes, remove them.")] = False,
) -> None:
    """Stop the broker and remove all its topics."""
    folder = _folder(context, data)
    if not yes:
        raise NotConfirmed(folder=folder)
    EmbeddedBroker(folder).reset()
    typer.echo(f"All topics below {folder} are removed.")


def _folder(context: typer.Context, data: Path | None) -> Path:
    return data.absolute() if data is not None else begin(context).settings.state / "broker"


def _in_words(found: Status, folder: Path) -> str:
    kept = f"{found.data_bytes / _MEBIBYTE:.0f} MiB of data in {folder}, {found.free_bytes / _MEBIBYTE:.0f} MiB free"
    if found.pid is None:
        return f"Kafka does not run. {kept}. Start it with: headrace broker start"
    state = "answers on" if found.answering else "runs but does not answer (yet) on"
    memory = f"{(found.resident_bytes or 0) / _MEBIBYTE:.0f} MiB of memory"
    return f"Kafka {state} 127.0.0.1:{found.port} (process {found.pid}, {memory}). {kept}."
