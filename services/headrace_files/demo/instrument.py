"""`headrace sandbox instrument`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.runtime import begin, stopping
from headrace_files.demo.material import MEGABYTE, Instrument, plan

LOOK_SECONDS = 0.2


def instrument(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write the files in.")],
    seconds: Annotated[float, typer.Option(help="Time over which the files are spread.", min=0)] = 60,
    seed: Annotated[int, typer.Option(help="Another number makes other sizes, in another order.")] = 1,
) -> None:
    """Play an instrument: fill a folder with about 500 files, 300 MB, of mixed sizes and some of awkward names."""
    begin(context)
    files = plan(seed)
    playing = Instrument(folder, files, seconds)
    with stopping(threading.Event()) as stop:
        playing.start()
        while not playing.finished and not stop.wait(LOOK_SECONDS):
            if not playing.running:
                break
        playing.stop()
    typer.echo(f"{playing.made} of {len(files)} files, {playing.bytes / MEGABYTE:.0f} MB, are in {folder}.")
    raise typer.Exit(0 if playing.finished else 1)
