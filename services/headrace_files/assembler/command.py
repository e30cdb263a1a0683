"""`headrace assemble`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli import runtime


def assemble(
    context: typer.Context,
    root: Annotated[Path | None, typer.Argument(metavar="DIR", help="Folder to rebuild the files in.")] = None,
    sink: Annotated[str | None, typer.Option(help="Name of this tree: its copies share the work.")] = None,
    layout: Annotated[str | None, typer.Option(help="{path}, or {source}/{path} to keep sources apart.")] = None,
    incomplete_after: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Give up a file that no frame came of for this long.")
    ] = None,
    copies: Annotated[
        int | None, typer.Option("--copies", "--n_threads", help="Members of the group in this process.")
    ] = None,
    restore_mode: Annotated[bool | None, typer.Option(help="Restore the permission bits of the source.")] = None,
    metrics_port: Annotated[
        str | None, typer.Option(help="Port of /metrics and /healthz, auto, or 0 for none.")
    ] = None,
) -> None:
    """Rebuild files from Kafka in a folder tree, until SIGTERM or Ctrl-C.

    A file appears under its name when all of it is there and its hash is right, never before. Start the command again,
    here or on another machine that sees the folder, and the copies share the work.
    """
    overrides = {
        "root": root,
        "sink": sink,
        "layout": layout,
        "incomplete_after": incomplete_after,
        "copies": copies,
        "restore_mode": restore_mode,
        "metrics_port": metrics_port,
    }
    runtime.serve(context, "assembler", overrides)
