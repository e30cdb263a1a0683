"""`headrace demo`: the main jobs on this machine, from nothing."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headrace.broker import EmbeddedBroker, free_port
from headrace.demonstration import Scene
from headrace.errors import ConfigError
from headrace.families import demos

MARKER = ".headrace-demo"


class NotOurFolder(ConfigError):
    """The folder {folder} is not empty, and no earlier demonstration made it. Name another one with --folder."""

    code = "not-our-folder"


class UnknownPart(ConfigError):
    """The demonstration has no part {name!r}. It has: {valid}."""

    code = "unknown-part"


def demo(
    parts: Annotated[list[str] | None, typer.Argument(metavar="[PART]...", help="Only these; default: all.")] = None,
    folder: Annotated[Path, typer.Option(help="Where everything is put; an earlier demonstration is replaced.")] = Path(
        "demo"
    ),
    seconds: Annotated[float, typer.Option(help="Time over which the instrument's files arrive.")] = 20.0,
) -> None:
    """Watch the main jobs on this machine, from nothing: Kafka, outside systems, services, and books that balance.

    Part files: an instrument's folder goes to another site and to an object store; one receiver is killed on the way.
    Part students: a state's nightly dump goes from an sFTP server to a registration system, two nights in a row.
    """
    known = demos()
    for name in parts or ():
        if name not in known:
            raise UnknownPart(name=name, valid=", ".join(known))
    console = Console()
    _prepare(folder)
    began = time.monotonic()
    broker = EmbeddedBroker(folder.absolute() / "state" / "broker", free_port(), fast_start=True)
    broker.start()
    code = 0
    try:
        console.print(f"Apache Kafka at {broker.bootstrap}, up after {time.monotonic() - began:.1f} s")
        for name, entry in known.items():
            if not parts or name in parts:
                console.print(f"\n== {name}: {entry.help}\n", markup=False)
                code = max(code, entry.run(Scene(folder.absolute(), broker, console, seconds)))
    finally:
        broker.stop()
    console.print(f"\nAll of it took {time.monotonic() - began:.0f} s.")
    raise typer.Exit(code)


def _prepare(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            raise NotOurFolder(folder=folder)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
