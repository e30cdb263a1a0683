"""`headrace console`."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.cli.runtime import serve


def console(
    context: typer.Context,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; by default only this machine can look.")
    ] = None,
) -> None:
    """Serve pages to watch Headrace with: topology, jobs, dead letters, files.

    Prints the address to open, with the token to log in, and runs until SIGTERM or Ctrl-C.
    """
    serve(context, "console", {"port": port, "host": host})
