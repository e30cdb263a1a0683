"""`headrace art`: what an operator of the students' load has."""

from __future__ import annotations

import typer

from headrace_art.checker.command import check
from headrace_art.importing.command import import_settings

app = typer.Typer(no_args_is_help=True, help="Load students into ART, and compare it with their dump.")
app.command()(check)
app.command("import-settings")(import_settings)
