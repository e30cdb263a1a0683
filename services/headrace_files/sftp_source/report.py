"""What a fetch shows: a bar on a terminal, lines in a pipe, JSON lines on demand."""

from __future__ import annotations

import json
import time
from typing import Any, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

LINE_EVERY = 5.0  # seconds


class Report(Protocol):
    """Shows how a fetch goes. Called from the source's thread."""

    def progress(self, path: str, done: int, total: int) -> None:
        """`done` of `total` bytes are here."""

    def say(self, event: str, path: str, **details: Any) -> None:
        """Something happened: waiting, resumed, fetched, sent, unchanged, failed, would-fetch."""

    def close(self, summary: dict[str, Any]) -> None:
        """All is said; `summary` holds counts, bytes and seconds."""


class Silent:
    """Shows nothing: the service's log does."""

    def progress(self, path: str, done: int, total: int) -> None:
        """Nothing."""

    def say(self, event: str, path: str, **details: Any) -> None:
        """Nothing."""

    def close(self, summary: dict[str, Any]) -> None:
        """Nothing."""


class Lines:
    """One line an event, one every few seconds while bytes come, one at the end."""

    def __init__(self) -> None:
        self._next = time.monotonic() + LINE_EVERY

    def progress(self, path: str, done: int, total: int) -> None:
        """`done` of `total` bytes are here."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_EVERY
            typer.echo(f"{path}: {done:,} of {total:,} bytes ({100 * done // max(total, 1)} %)")

    def say(self, event: str, path: str, **details: Any) -> None:
        """Something happened."""
        typer.echo(in_words(event, path, details), err=event == "failed")

    def close(self, summary: dict[str, Any]) -> None:
        """All is said."""
        typer.echo(summary_in_words(summary))


class JsonLines:
    """One JSON object a line."""

    def progress(self, path: str, done: int, total: int) -> None:
        """Machines wait for the end."""

    def say(self, event: str, path: str, **details: Any) -> None:
        """Something happened."""
        typer.echo(json.dumps({"event": event, "path": path, **details}))

    def close(self, summary: dict[str, Any]) -> None:
        """All is said."""
        typer.echo(json.dumps({"event": "done", **summary}))


class Bar:
    """A bar with bytes, rate and time left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("connecting", total=None)
        self._progress.start()

    def progress(self, path: str, done: int, total: int) -> None:
        """`done` of `total` bytes are here."""
        self._progress.update(self._task, description=path, completed=done, total=total)

    def say(self, event: str, path: str, **details: Any) -> None:
        """Something happened."""
        self._progress.console.print(in_words(event, path, details), markup=False, highlight=False)

    def close(self, summary: dict[str, Any]) -> None:
        """All is said."""
        self._progress.stop()
        self._progress.console.print(summary_in_words(summary), markup=False, highlight=False)


def reporting(*, as_json: bool) -> Report:
    """The report that fits where the output goes."""
    if as_json:
        return JsonLines()
    console = Console()
    return Bar(console) if console.is_terminal else Lines()


def in_words(event: str, path: str, details: dict[str, Any]) -> str:
    """An event as a line."""
    size = f"{details.get('bytes', 0):,} bytes"
    match event:
        case "waiting":
            return f"{path}: {size}; fetched when it has been still"
        case "resumed":
            return f"{path}: going on at byte {details['at']:,}"
        case "fetched":
            return f"{path}: {size} fetched"
        case "sent":
            return f"{path}: {size} on the log, file {details['file']}"
        case "unchanged":
            return f"{path}: {size}, on the log already"
        case "would-fetch":
            return f"{path}: {size} would be fetched and sent"
        case "trying-again":
            return f"{path}: {details['reason']}"
        case _:
            return f"{path}: {details.get('reason', event)}"


def summary_in_words(summary: dict[str, Any]) -> str:
    """The last line."""
    text = f"{summary['sent']} sent, {summary['unchanged']} unchanged, {summary['failed']} failed"
    return f"{text}; {summary['bytes']:,} bytes in {summary['seconds']:.1f} s"
