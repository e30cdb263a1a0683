"""The options that the commands which load students have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.interrupts import OnInterrupt

Encoding = Annotated[
    str | None, typer.Option("-e", "--encoding", help="Of the files; default: the dataset's, latin-1.")
]
Delimiter = Annotated[str | None, typer.Option("-d", "--delimiter", help="Of the files; default: the dataset's, ^.")]
Report = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Write the summary there in the end, as JSON and CSV.")
]
Interrupt = Annotated[OnInterrupt, typer.Option(help="What Ctrl-C does: leave the load to others, or stop it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON lines.")]
