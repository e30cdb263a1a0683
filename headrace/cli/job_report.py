"""How a command shows a job's books filling: bars on a terminal, lines in a pipe, JSON lines on demand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from headrace.events import Books, Job
from headrace.jobs.progress import Speed, StageProgress

JSON_EVERY = 1.0
LINE_EVERY = 5.0
"""Seconds between two lines in a pipe while the state stays the same."""


class JobReport(Protocol):
    """Shows how a job goes."""

    def show(self, job: Job) -> None:
        """The ledger has written something new."""

    def progress(self, stages: Sequence[StageProgress]) -> None:
        """How far stages are. From any thread."""

    def note(self, text: str) -> None:
        """Something the user has to know."""

    def close(self, job: Job | None, exit_code: int) -> None:
        """All is said; `job` is what the ledger wrote last, if anything."""


class JsonLines:
    """One JSON object a line; of how far a stage is, one a second at most."""

    def __init__(self) -> None:
        self._news = _News(JSON_EVERY)

    def show(self, job: Job) -> None:
        """The ledger has written something new."""
        self._say("job", **as_json(job))

    def progress(self, stages: Sequence[StageProgress]) -> None:
        """How far stages are."""
        for stage in self._news.of(stages):
            self._say("progress", **stage.as_json())

    def note(self, text: str) -> None:
        """Something the user has to know."""
        self._say("note", text=text)

    def close(self, job: Job | None, exit_code: int) -> None:
        """All is said."""
        self._say("end", **({} if job is None else as_json(job)), exit_code=exit_code)

    def _say(self, event: str, **fields: Any) -> None:
        typer.echo(orjson.dumps({"event": event, **fields}))


class Lines:
    """A line when the state changes, and every few seconds."""

    def __init__(self) -> None:
        self._state = ""
        self._next = 0.0
        self._news = _News(LINE_EVERY)

    def show(self, job: Job) -> None:
        """The ledger has written something new."""
        if job.state == self._state and time.monotonic() < self._next:
            return
        self._state, self._next = job.state, time.monotonic() + LINE_EVERY
        typer.echo(in_words(job))

    def progress(self, stages: Sequence[StageProgress]) -> None:
        """How far stages are."""
        for stage in self._news.of(stages):
            typer.echo(progress_in_words(stage))

    def note(self, text: str) -> None:
        """Something the user has to know."""
        typer.echo(text)

    def close(self, job: Job | None, exit_code: int) -> None:  # noqa: ARG002 - the code is the shell's
        """All is said."""
        for line in books_in_words(job) if job is not None else ():
            typer.echo(line)


class Bars:
    """A bar for each group."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[bad]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._news = _News(0.0)
        self._staged: set[str] = set()

    def progress(self, stages: Sequence[StageProgress]) -> None:
        """How far stages are: a bar for each of them in place of its group's."""
        self._progress.start()
        for stage in self._news.of(stages):
            if stage.group is not None and stage.group not in self._staged:
                self._staged.add(stage.group)
                if stage.group in self._tasks:
                    self._progress.update(self._tasks[stage.group], visible=False)
            name = _name(stage)
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=None, bad="")
            self._progress.update(
                self._tasks[name], total=stage.total, completed=stage.done or 0, bad=", ".join(_besides(stage))
            )

    def show(self, job: Job) -> None:
        """The ledger has written something new."""
        self._progress.start()
        for book in job.books:
            if book.group in self._staged:
                continue
            if book.expected is None and job.state not in ("waiting", "running"):
                continue
            if book.group not in self._tasks:
                self._tasks[book.group] = self._progress.add_task(book.group, total=book.expected, bad="")
            good = book.delivered + book.unchanged
            bad = total(book) - good
            self._progress.update(
                self._tasks[book.group],
                total=book.expected,
                completed=total(book),
                bad=f"{bad} not delivered" if bad else "",
            )

    def note(self, text: str) -> None:
        """Something the user has to know."""
        self._progress.console.print(text, markup=False, highlight=False)

    def close(self, job: Job | None, exit_code: int) -> None:  # noqa: ARG002 - the code is the shell's
        """All is said."""
        self._progress.stop()
        if job is not None:
            for line in (in_words(job), *books_in_words(job)):
                self.note(line)


class _News:
    """Of how far stages are, what is worth saying now: each so often at most, and its end at once."""

    def __init__(self, every: float) -> None:
        self._every, self._speed = every, Speed()
        self._said: dict[tuple[str | None, ...], tuple[float, StageProgress]] = {}

    def of(self, stages: Sequence[StageProgress]) -> list[StageProgress]:
        found = []
        for stage in stages:
            key, now = (stage.stage, stage.group, stage.dataset, stage.file), time.monotonic()
            due, said = self._said.get(key, (now + self._every, None))
            timed = self._speed.timed(stage, now)
            ended = stage.total is not None and stage.done == stage.total
            news = said is None or said.figures != stage.figures
            if news and (now >= due or ended):
                self._said[key] = (now + self._every, stage)
                found.append(timed)
            elif said is None:
                self._said[key] = (due, replace(stage, figures={}))
        return found


def progress_in_words(stage: StageProgress) -> str:
    """How far a stage is, in one line."""
    done = f"{stage.done:,} of {stage.total:,} {stage.measure}" if stage.done is not None else ""
    if not done:
        done = next((f"{stage.figures[name]:,} {name}" for name in ("rows", "bytes") if name in stage.figures), "")
    return ", ".join((f"{_name(stage)}: {done}", *_besides(stage)))


def _name(stage: StageProgress) -> str:
    about = stage.file or stage.dataset
    return stage.stage if about is None else f"{stage.stage} {about}"


def _besides(stage: StageProgress) -> list[str]:
    figures = stage.figures
    parts = [f"{figures['batches']:,} batches"] if figures.get("batches") else []
    parts += [f"backlog {figures['backlog']:,}"] if figures.get("backlog") else []
    if stage.seconds_left:
        minutes, seconds = divmod(round(stage.seconds_left), 60)
        hours, minutes = divmod(minutes, 60)
        parts.append(f"{hours}:{minutes:02}:{seconds:02} left")
    return parts


def job_reporting(*, json: bool) -> JobReport:
    """The report that fits where the output goes."""
    if json:
        return JsonLines()
    console = Console()
    return Bars(console) if console.is_terminal else Lines()


def total(book: Books) -> int:
    """All that a group has accounted for."""
    return book.delivered + book.unchanged + book.dead_lettered + book.held + book.failed


def in_words(job: Job) -> str:
    """A job in one line."""
    parts = [f"{book.group} {total(book)}/{'?' if book.expected is None else book.expected}" for book in job.books]
    reason = f" ({job.reason})" if job.reason else ""
    return f"{job.job}: {job.state}{reason}  {'  '.join(parts)}".rstrip()


def books_in_words(job: Job) -> list[str]:
    """The books, a line for each group."""
    lines = []
    for book in job.books:
        sums = {
            "delivered": book.delivered, "unchanged": book.unchanged, "dead-lettered": book.dead_lettered,
            "held": book.held, "failed": book.failed,
        }  # fmt: skip
        said = ", ".join(f"{count} {name}" for name, count in sums.items() if count) or "nothing yet"
        lines.append(f"  {book.group}: {'' if book.expected is None else f'{book.expected} expected = '}{said}")
    return lines


def as_json(job: Job) -> dict[str, Any]:
    """A job as plain values; times are microseconds since the epoch."""
    fields = ("job", "kind", "state", "reason", "started", "updated", "ended")
    return {
        **{name: getattr(job, name) for name in fields},
        "books": [{name: getattr(book, name) for name in book.__struct_fields__} for book in job.books],
    }
