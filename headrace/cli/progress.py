"""How far a command has come: a bar on a terminal, a line every few seconds in a pipe; both on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY = 5.0  # seconds

Advance = Callable[[int, int], None]
"""Told how many of how many are done."""


@contextmanager
def advancing(what: str, *, quiet: bool = False) -> Iterator[Advance]:
    """Show how far `what` has come, until the block ends; nothing with `quiet`, for output that a program reads."""
    console = Console(stderr=True)
    if quiet:
        yield lambda _done, _total: None
    elif console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        yield _lines(what)


def _lines(what: str) -> Advance:
    due = time.monotonic() + LINE_EVERY

    def advance(done: int, total: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + LINE_EVERY
            typer.echo(f"{what}: {done:,} of {total:,}", err=True)

    return advance
