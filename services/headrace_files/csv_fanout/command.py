"""`headrace fan-out`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli import runtime


def fan_out(
    context: typer.Context,
    datasets: Annotated[
        list[str] | None, typer.Argument(metavar="DATASET...", help="Publish only these; without: all.")
    ] = None,
    sink: Annotated[str | None, typer.Option(help="Name of this fan-out: its copies share the work.")] = None,
    spool: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for files on their way.")] = None,
    spool_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Bytes that they may take; a larger file is refused.")
    ] = None,
    allow_shrink: Annotated[
        bool | None, typer.Option("--allow-shrink", help="Publish also a file that has far fewer rows than the last.")
    ] = None,
    copies: Annotated[int | None, typer.Option(help="Members of the group in this process.")] = None,
    metrics_port: Annotated[
        str | None, typer.Option(help="Port of /metrics and /healthz, auto, or 0 for none.")
    ] = None,
) -> None:
    """Turn files of declared datasets into records, until SIGTERM or Ctrl-C.

    A file is read whole and verified before anything of it is published; rows that cannot be read are dead letters.
    What datasets there are, `headrace dataset list` shows; what would become of a file, `headrace dataset check`.
    """
    overrides = {
        "datasets": datasets or None,
        "sink": sink,
        "spool": spool,
        "spool_size": spool_size,
        "allow_shrink": allow_shrink,
        "copies": copies,
        "metrics_port": metrics_port,
    }
    runtime.serve(context, "csv_fanout", overrides)
