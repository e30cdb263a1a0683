"""`headrace verify`: tell from the log alone whether every file has arrived, or read the destinations again."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated

import typer
from rich.console import Console

from headrace.cli.runtime import begin
from headrace.config.units import parse_duration
from headrace.errors import ConfigError
from headrace.proof.destinations import check, looking, read_file
from headrace.proof.log import Name
from headrace.proof.report import JsonReport, Report, TextReport
from headrace.proof.verify import Outcome, Verification


class WrongTime(ConfigError):
    """The time {text!r} is neither a duration such as 2h or 7d, nor a time such as 2026-05-01T12:00."""

    code = "wrong-time"


class OneOrTheOther(ConfigError):
    """A file and --since exclude each other. Give one of them: a file is told of with all its versions."""

    code = "one-or-the-other"


def since_milliseconds(text: str, now: datetime) -> int:
    """Milliseconds since the epoch of a duration before `now` or an ISO 8601 time; without a zone it is local.

    Raises WrongTime if it is neither.
    """
    try:
        duration = parse_duration(text)
        then = now - duration if isinstance(duration, timedelta) else datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise WrongTime(text=text) from error
    return int(then.timestamp() * 1000)


def verify(
    context: typer.Context,
    file: Annotated[
        str | None,
        typer.Argument(help="A file: its path, the end of its path, or its id; else all.", show_default=False),
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only what happened since a time (2026-05-01T12:00) or in the last … (2h, 7d).")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="FILE is the whole path below this source's root: finds it faster.")
    ] = None,
    sink: Annotated[str | None, typer.Option(help="Only this sink: its name, or service and name.")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read the destinations again and compare.")] = False,
    endpoint: Annotated[
        str | None, typer.Option(help="With --deep: address of the object store of buckets that no settings name.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="JSON lines: an object per file version, then a summary.")
    ] = False,
) -> None:
    """Tell from the log whether every file has arrived: sent, received where, hashes equal, missing, still open.

    Exit code 0: everything delivered or unchanged; 1: something failed, is missing or still open; 3: balanced, with
    dead letters or held items.
    """
    if file is not None and since is not None:
        raise OneOrTheOther
    session = begin(context)
    cluster = session.cluster()
    look = None
    if deep:
        # They take their time to import, and most need none of them.
        from headrace.proof.records import RecordPlaces
        from headrace.proof.stores import StoreReader

        readers = {"file": read_file, "s3": StoreReader(session.sources, endpoint).read}
        look = looking(partial(check, readers=readers), RecordPlaces(cluster).check)
    outcome = Outcome()
    verification = Verification(
        cluster,
        name=None if file is None else Name(os.fsencode(file), source),
        since=None if since is None else since_milliseconds(since, datetime.now(UTC).astimezone()),
        sink=sink,
        look=look,
        sources=session.sources,
    )
    report: Report
    if json:
        report = JsonReport(sys.stdout.write)
    else:
        report = TextReport(Console(highlight=False), cluster.settings.prefix, every_file=file is not None)
    for account, checks in verification.run(outcome):
        report.take(account, checks)
    report.end(outcome)
    raise typer.Exit(outcome.exit_code if outcome.totals.versions or file is None else 1)
