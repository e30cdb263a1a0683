"""A command group whose commands are imported only when they are used, so that `headrace --help` answers at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from headrace.families import CommandEntry, load


class LazyGroup(TyperGroup):
    """Lists commands from a table; imports the one that is called."""

    entries: Callable[[], Mapping[str, CommandEntry]] = dict

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all commands, in the order of the table."""
        return [*super().list_commands(ctx), *self.entries()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """What the help needs of a command: its name and its one line."""
        entry = self.entries().get(cmd_name)
        if entry is None:
            return super().get_command(ctx, cmd_name)
        return TyperCommand(name=cmd_name, help=entry.help, callback=_nothing)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called, imported."""
        name, command, rest = super().resolve_command(ctx, args)
        entry = self.entries().get(name) if name else None
        return name, command if entry is None else load_command(entry), rest


def load_command(entry: CommandEntry) -> Any:
    """Import a command: a typer app as a group, a function as a command."""
    target = load(entry.load)
    if isinstance(target, typer.Typer):
        command = typer.main.get_command(target)
    else:
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(help=None if target.__doc__ else entry.help)(target)
        command = typer.main.get_command(app)
    command.name = entry.name
    return command


def _nothing() -> None:
    """Stands for a command that is not imported yet."""
