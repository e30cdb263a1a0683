"""`headrace run` and `headrace up`: one service, or those of one machine."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.cli import runtime


def run(
    context: typer.Context,
    service: Annotated[str, typer.Argument(help="Section of the service: assembler, or assembler.site_b.")],
    with_parent: Annotated[
        bool, typer.Option("--with-parent", hidden=True, help="Stop when the process that started this one is gone.")
    ] = False,
) -> None:
    """Run one service with the settings of its section, in the foreground, until SIGTERM or Ctrl-C."""
    runtime.serve(context, service, with_parent=with_parent)
