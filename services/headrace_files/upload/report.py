"""What an upload shows: a bar on a terminal, lines in a pipe, JSON lines on demand."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from headrace.events import FileEvent
from headrace_files.sending.jobs import Outcome
from headrace_files.sending.snapshot import printable
from headrace_files.upload.waiting import Exit, Receipt

LINE_EVERY = 5.0  # seconds


class Report(Protocol):
    """Shows how an upload goes."""

    def progress(self, done: int, total: int) -> None:
        """`done` of `total` bytes are on the log."""

    def sent(self, event: FileEvent) -> None:
        """A file is on the log."""

    def not_sent(self, outcome: Outcome) -> None:
        """A file is not on the log."""

    def received(self, event: FileEvent, receipt: Receipt) -> None:
        """A receiver has answered."""

    def close(self, summary: dict[str, Any]) -> None:
        """All is said; `summary` holds counts, bytes, seconds and the exit code."""


class Lines:
    """One line a file, one every few seconds, one at the end."""

    def __init__(self) -> None:
        self._next = time.monotonic() + LINE_EVERY

    def progress(self, done: int, total: int) -> None:
        """`done` of `total` bytes are on the log."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_EVERY
            typer.echo(f"{done:,} of {total:,} bytes ({100 * done // max(total, 1)} %)")

    def sent(self, event: FileEvent) -> None:
        """A file is on the log."""
        typer.echo(f"sent {printable(event.path)} ({event.size or 0:,} bytes)")

    def not_sent(self, outcome: Outcome) -> None:
        """A file is not on the log."""
        typer.echo(f"not sent {printable(outcome.job.path)}: {outcome.reason or outcome.result.value}", err=True)

    def received(self, event: FileEvent, receipt: Receipt) -> None:
        """A receiver has answered."""
        where = f" at {receipt.where}" if receipt.where else ""
        code = f" ({receipt.code})" if receipt.code else ""
        typer.echo(f"{receipt.outcome} {printable(event.path)}{where}{code}")

    def close(self, summary: dict[str, Any]) -> None:
        """All is said."""
        typer.echo(_in_words(summary))


class JsonLines:
    """One JSON object a line; names that are no UTF-8 stand with surrogate escapes."""

    def progress(self, done: int, total: int) -> None:
        """Machines wait for the end."""

    def sent(self, event: FileEvent) -> None:
        """A file is on the log."""
        self._say(
            "sent",
            event.path,
            bytes=event.size,
            file=event.file.hex(),
            partition=event.partition,
            first=event.first,
            last=event.last,
            alg=event.alg,
            hash=(event.hash or b"").hex(),
        )

    def not_sent(self, outcome: Outcome) -> None:
        """A file is not on the log."""
        self._say("not_sent", outcome.job.path, reason=outcome.reason or outcome.result.value)

    def received(self, event: FileEvent, receipt: Receipt) -> None:
        """A receiver has answered."""
        self._say(receipt.outcome, event.path, group=receipt.group, where=receipt.where, code=receipt.code)

    def close(self, summary: dict[str, Any]) -> None:
        """All is said."""
        typer.echo(json.dumps({"event": "done", **summary}))

    def _say(self, event: str, path: bytes, **fields: Any) -> None:
        typer.echo(json.dumps({"event": event, "path": os.fsdecode(path), **fields}))


class Bar:
    """A bar with bytes, rate and time left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("sending", total=None)
        self._progress.start()

    def progress(self, done: int, total: int) -> None:
        """`done` of `total` bytes are on the log."""
        waiting = "waiting for the receipts" if done >= total else "sending"
        self._progress.update(self._task, completed=done, total=total, description=waiting)

    def sent(self, event: FileEvent) -> None:
        """The bar shows it."""

    def not_sent(self, outcome: Outcome) -> None:
        """A file is not on the log."""
        text = f"not sent {printable(outcome.job.path)}: {outcome.reason or outcome.result.value}"
        self._progress.console.print(text, markup=False, highlight=False)

    def received(self, event: FileEvent, receipt: Receipt) -> None:
        """Only what is not as it should be is told."""
        if receipt.outcome not in ("delivered", "unchanged"):
            text = f"{receipt.outcome} {printable(event.path)} ({receipt.code})"
            self._progress.console.print(text, markup=False, highlight=False)

    def close(self, summary: dict[str, Any]) -> None:
        """All is said."""
        self._progress.stop()
        self._progress.console.print(_in_words(summary), markup=False, highlight=False)


def reporting(*, as_json: bool) -> Report:
    """The report that fits where the output goes."""
    if as_json:
        return JsonLines()
    console = Console()
    return Bar(console) if console.is_terminal else Lines()


def _in_words(summary: dict[str, Any]) -> str:
    seconds = float(summary["seconds"])
    rate = summary["bytes"] / max(seconds, 1e-9) / 1e6
    text = f"{summary['sent']} files, {summary['bytes']:,} bytes in {seconds:.1f} s ({rate:.0f} MB/s)"
    if summary["not_sent"]:
        text += f"; {summary['not_sent']} not sent"
    if summary["exit_code"] == Exit.DETACHED:
        text += "; they are on the log, but no receipt came in time"
    return text
