"""`headrace art`: what an operator of the students' load has."""

from __future__ import annotations

import typer

from headrace_art.checker.command import check
from headrace_art.importing.command import import_settings
from headrace_art.loading.command import load
from headrace_art.loading.resend import resend
from headrace_art.reporting.command import report

app = typer.Typer(
    help="Load students into ART, and compare it with their dump.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
app.command()(load)
app.command()(report)
app.command()(resend)
app.command()(check)
app.command("import-settings")(import_settings)
