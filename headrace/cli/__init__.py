"""The command line. Commands stand in a table or come from families, and are imported when they are called.

Exit codes (design section 4): 0 everything delivered or unchanged, 1 something failed, 2 wrong usage or settings,
3 balanced with dead letters or held items, 4 detached; 130 interrupted before anything could be drained.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
import typer.main

from headrace import __version__
from headrace.cli.lazy import LazyGroup
from headrace.cli.options import Options
from headrace.errors import ConfigError, HeadraceError
from headrace.families import CommandEntry, families

OWN_COMMANDS = (
    CommandEntry("demo", "headrace.cli.demo:demo", "Watch the main jobs on this machine, from nothing."),
    CommandEntry("up", "headrace.cli.services:up", "Run the services chosen in headrace.toml on this machine."),
    CommandEntry("run", "headrace.cli.services:run", "Run one service."),
    CommandEntry("verify", "headrace.cli.verify:verify", "Tell from the log whether every file has arrived."),
    CommandEntry("replay", "headrace.cli.replay:replay", "Make again, from the log, what a destination lacks."),
    CommandEntry("dlq", "headrace.cli.dlq:app", "List, show, re-drive and discard dead letters."),
    CommandEntry("jobs", "headrace.cli.jobs:app", "List, show, follow and stop jobs."),
    CommandEntry("topics", "headrace.cli.topics:app", "List, create and describe topics."),
    CommandEntry("dataset", "headrace.cli.dataset:app", "List, show and try out the datasets that are declared."),
    CommandEntry("sandbox", "headrace.cli.sandbox:app", "Run stand-ins for outside systems, and make data for them."),
    CommandEntry("config", "headrace.cli.config:app", "Show and check the settings."),
    CommandEntry("broker", "headrace.cli.broker:app", "Run Apache Kafka on this machine, without a cluster."),
)


def commands() -> Mapping[str, CommandEntry]:
    """Every command by name: those of the families first, then our own."""
    entries = [entry for family in families() for entry in family.commands]
    return {entry.name: entry for entry in (*entries, *OWN_COMMANDS)}


class _Commands(LazyGroup):
    entries = staticmethod(commands)


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"headrace {__version__}")
        raise typer.Exit


@app.callback()
def headrace(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Settings file; else $HEADRACE_CONFIG, else headrace.toml in this folder."),
    ] = None,
    bootstrap: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Kafka to use; else as set, else the embedded one.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="The least severe log level: debug, info, warning, error.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the code an error came from.")] = False,
    version: Annotated[  # noqa: ARG001 - acted on by its callback
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Move data from where it is born to the systems that use it, through Apache Kafka."""
    context.obj = Options(config, bootstrap, log_level, debug)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: every error that Headrace raises on purpose is one line on standard error."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    debug = "--debug" in arguments
    try:
        typer.main.get_command(app).main(args=list(arguments), prog_name="headrace", standalone_mode=True)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except HeadraceError as error:
        if debug:
            traceback.print_exc()
        typer.echo(f"headrace: {error}", err=True)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 130
    return 0
