"""`headrace sandbox`: stand-ins for outside systems, which families bring."""

from __future__ import annotations

from collections.abc import Mapping

import typer

from headrace.cli.lazy import LazyGroup
from headrace.families import CommandEntry, families


def sandboxes() -> Mapping[str, CommandEntry]:
    """Every stand-in by name."""
    return {entry.name: entry for family in families() for entry in family.sandbox}


class _Sandboxes(LazyGroup):
    entries = staticmethod(sandboxes)


app = typer.Typer(
    cls=_Sandboxes,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Run stand-ins for outside systems, and make data for them.",
)


@app.callback()
def sandbox() -> None:
    """Run stand-ins for outside systems, and make data for them."""
