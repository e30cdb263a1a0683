"""Talking to a watcher on standard input: `check` or `c`, `quit` or `q`; and its sign of life on standard output."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from typing import TextIO

import typer

from headrace_files.directory_source.service import DirectorySource
from headrace_files.sending.jobs import Outcome
from headrace_files.sending.snapshot import printable

MOST_NAMES = 20
PATIENCE = 0.5  # seconds


class Console:
    """Reads commands in a thread of its own; an end of input is no command.

    Parameters:
        update_seconds: a "." is printed this often; not positive: never.
    """

    def __init__(self, update_seconds: float, source: TextIO | None = None) -> None:
        self._update = update_seconds
        self._next = time.monotonic() + update_seconds
        self._input = source or sys.stdin
        self._asked: list[str] = []
        self._thread = threading.Thread(target=self._read, name="console", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def turn(self, source: DirectorySource) -> None:
        """Answer what was asked since the last time."""
        now = time.monotonic()
        if self._update > 0 and now >= self._next:
            self._next = now + self._update
            typer.echo(".", nl=False)
        while self._asked:
            match self._asked.pop(0):
                case "check" | "c":
                    typer.echo("\n".join(describe(source)))
                case "quit" | "q":
                    typer.echo("finishing the files that are begun")
                    source.quit()
                case other:
                    typer.echo(f"{other!r} is no command; there are: check (c), quit (q)")

    def ended(self, outcome: Outcome) -> None:
        """A file has come to its end: nothing to say."""

    def _read(self) -> None:
        try:
            while self._wait():
                line = self._input.readline()
                if not line:
                    return
                if line.strip():
                    self._asked.append(line.strip().lower())
        except (OSError, ValueError):
            # Standard input is closed.
            return

    def _wait(self) -> bool:
        """Wait for a line. A process in the background of a terminal would be stopped for reading from it."""
        handle = self._input.fileno()
        while True:
            if os.isatty(handle) and os.tcgetpgrp(handle) != os.getpgrp():
                time.sleep(PATIENCE)
                continue
            if select.select([handle], [], [], PATIENCE)[0]:
                return True


def describe(source: DirectorySource) -> list[str]:
    """The files that are recognised and how far they are."""
    tree = source.tree
    lines = [f"{tree.settled} sent, {len(tree.active)} in progress, {tree.waiting} waiting"]
    transfers = list(source.sender.active.values()) if source.sender is not None else []
    for transfer in transfers[:MOST_NAMES]:
        chunk = transfer.chunk or 1
        total = -(-transfer.snapshot.size // chunk)
        lines.append(f"  in progress  {printable(transfer.job.path)}  chunk {transfer.acked // chunk} of {total}")
    waiting = list(tree.waiting_paths())
    lines.extend(f"  waiting      {printable(path)}" for path in waiting[:MOST_NAMES])
    if len(waiting) > MOST_NAMES:
        lines.append(f"  ... and {len(waiting) - MOST_NAMES} more")
    lines.extend(f"  not readable {printable(path)}" for path in sorted(tree.unreadable)[:MOST_NAMES])
    lines.extend(f"  given up     {printable(path)}" for path in sorted(tree.given_up)[:MOST_NAMES])
    return lines
