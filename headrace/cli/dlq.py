"""`headrace dlq`: list, show, re-drive and discard dead letters."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import typer

from headrace.cli.output import print_json, print_table
from headrace.cli.progress import advancing
from headrace.cli.runtime import begin, stopping
from headrace.cli.verify import since_milliseconds
from headrace.deadletters.contents import describe, describe_key
from headrace.deadletters.decisions import Decision, record
from headrace.deadletters.letters import DeadLetter
from headrace.deadletters.listing import NothingChosen, standing
from headrace.deadletters.progress import Progress
from headrace.deadletters.redrive import Redrive, Redriven
from headrace.deadletters.selection import MOST_ATTEMPTS, Histogram, Selection, State, parse_id
from headrace.deadletters.survey import FATES, WHY, Survey, Surveyor
from headrace.errors import ConfigError
from headrace.families import catalogue
from headrace.kafka.clients import Cluster
from headrace.proof.report import printable, size_text

app = typer.Typer(no_args_is_help=True, help="List, show, re-drive and discard dead letters.", rich_markup_mode=None)

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID]...", help="Dead letters, as 2:17.", show_default=False),
]
Reason = Annotated[list[str] | None, typer.Option("--reason", metavar="CODE", help="Only with this code; repeatable.")]
Service = Annotated[
    list[str] | None, typer.Option("--service", help="Only of this service, sink, or service.sink; repeatable.")
]
TopicName = Annotated[list[str] | None, typer.Option("--topic", help="Only from this topic; repeatable.")]
Job = Annotated[list[str] | None, typer.Option("--job", help="Only of this job; repeatable.")]
Item = Annotated[list[str] | None, typer.Option("--item", help="Only of this item, such as a file id; repeatable.")]
Since = Annotated[
    str | None, typer.Option(help="Only put aside since a time (2026-05-01T12:00) or in the last … (2h, 7d).")
]
Until = Annotated[str | None, typer.Option(help="Only put aside before a time, or longer ago than … (2h, 7d).")]
Json = Annotated[bool, typer.Option("--json", help="JSON lines: an object per dead letter, then a summary.")]
Attempts = Annotated[
    int, typer.Option("--max-attempts", min=1, help="A message that has died this often is quarantined.")
]


class NotConfirmed(ConfigError):
    """{count} dead letters would be discarded for good. Say --yes to discard them."""

    code = "not-confirmed"


@app.command("list")
def list_(
    context: typer.Context,
    ids: Ids = None,
    reason: Reason = None,
    service: Service = None,
    topic: TopicName = None,
    job: Job = None,
    item: Item = None,
    since: Since = None,
    until: Until = None,
    every: Annotated[bool, typer.Option("--all", help="Also what was re-driven, replayed or discarded.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="Name at most this many, the newest; all are counted.")] = 30,
    json: Json = False,
) -> None:
    """List the dead letters that are open, and count them by reason, service and topic.

    Exit code 0: none is open; 3: some are.
    """
    cluster = begin(context).cluster()
    selection = _selection(cluster, ids, reason, service, topic, job, item, since, until)
    histogram = Histogram()
    newest: list[tuple[DeadLetter, State]] = []
    for letter, _, state, decision in standing(cluster, selection, every=every):
        histogram.take(letter, state)
        if json:
            typer.echo(orjson.dumps(_letter_object(letter, state, decision)))
            continue
        newest.append((letter, state))
        if len(newest) >= 2 * max(limit, 1000):
            newest = _newest(newest, limit)
    still_open = sum(count for row, count in histogram.counts.items() if row[3] in ("open", "quarantined"))
    if json:
        typer.echo(orjson.dumps({"kind": "summary", "open": still_open, "counts": _counts(histogram)}))
    else:
        _print_letters(_newest(newest, limit), cluster.settings.prefix)
        _print_histogram(histogram, cluster.settings.prefix, "state")
        typer.echo(f"{still_open:,} open." if still_open else "No dead letter is open.")
    raise typer.Exit(3 if still_open else 0)


@app.command()
def show(
    context: typer.Context,
    ids: Ids = None,
    reason: Reason = None,
    service: Service = None,
    topic: TopicName = None,
    job: Job = None,
    item: Item = None,
    since: Since = None,
    until: Until = None,
    unmask: Annotated[bool, typer.Option("--unmask", help="Show personal values, such as paths and names.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show dead letters: why, where from, and what is in them, decoded where that is possible.

    Values that may be personal are masked, bytes of files are shown as length and hash. Exit code 1: there is none.
    """
    session = begin(context)
    cluster = session.cluster()
    selection = _selection(cluster, ids, reason, service, topic, job, item, since, until)
    everything = catalogue(datasets=session.settings.datasets.folder)
    topics = {cluster.topic_name(each): each for each in everything}
    shown = 0
    for letter, raw, state, decision in standing(cluster, selection, every=bool(ids)):
        value = _letter_object(letter, state, decision) | {
            "message": letter.message,
            "key": describe_key(letter.key, unmask=unmask),
            "content": describe(topics.get(letter.topic), raw.value() or b"", unmask=unmask),
        }
        typer.echo(orjson.dumps(value)) if json else print_json(value)
        shown += 1
        if shown == limit:
            break
    if not shown:
        typer.echo("No such dead letter is open.", err=True)
    raise typer.Exit(0 if shown else 1)


@app.command()
def redrive(
    context: typer.Context,
    ids: Ids = None,
    reason: Reason = None,
    service: Service = None,
    topic: TopicName = None,
    job: Job = None,
    item: Item = None,
    since: Since = None,
    until: Until = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    max_attempts: Attempts = MOST_ATTEMPTS,
    force: Annotated[
        bool, typer.Option("--force", help="Also what is quarantined, or cannot be read by this version.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Send dead letters back to the topics that they came from, for the service that could not handle them.

    Without filters: all that are open. Killed and started again it goes on; what went twice is listed. Exit code 0: all
    that were meant went; 1: Kafka refused some, or it was interrupted; 3: some stay, for the reasons that it gives.
    """
    session = begin(context)
    cluster = session.cluster()
    selection = _selection(cluster, ids, reason, service, topic, job, item, since, until)
    topics = catalogue(datasets=session.settings.datasets.folder)
    surveyor = Surveyor(cluster, topics, selection, most_attempts=max_attempts, force=force)
    outcome = Redriven()
    if dry_run:
        with Progress(cluster) as progress:
            survey = surveyor.survey(progress.read())
    else:
        with stopping(threading.Event()) as stop, advancing("re-driving", quiet=json) as report:
            survey, outcome = Redrive(cluster, surveyor, report).run(stop)
    stay = sum(survey.count(fate) for fate in FATES if fate != "redrive")
    code = 1 if outcome.refused or (not dry_run and outcome.left) else 3 if stay else 0
    if json:
        print_json(_outcome_object(survey, outcome, dry_run, code))
    else:
        _print_outcome(survey, outcome, cluster.settings.prefix, dry_run=dry_run)
    raise typer.Exit(code)


@app.command()
def discard(
    context: typer.Context,
    ids: Ids = None,
    reason: Reason = None,
    service: Service = None,
    topic: TopicName = None,
    job: Job = None,
    item: Item = None,
    since: Since = None,
    until: Until = None,
    because: Annotated[str | None, typer.Option(help="Why, for those who look at the books later.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Close dead letters for good: their files count as unchanged, discarded, and they are never re-driven.

    Their bytes stay on the topic until its retention takes them.
    """
    if not any((ids, reason, service, topic, job, item, since, until)):
        raise NothingChosen
    cluster = begin(context).cluster()
    selection = _selection(cluster, ids, reason, service, topic, job, item, since, until)
    histogram = Histogram()
    letters = []
    for letter, _, state, _decision in standing(cluster, selection, every=False):
        histogram.take(letter, state)
        letters.append(letter)
    if not json:
        _print_histogram(histogram, cluster.settings.prefix, "state")
    asked = not yes and not json and sys.stdin.isatty()
    if letters and not yes and not (asked and typer.confirm(f"Discard these {len(letters):,} for good?", err=True)):
        raise NotConfirmed(count=len(letters))
    count = record(cluster, letters, "discarded", because)
    if json:
        print_json({"discarded": count, "counts": _counts(histogram)})
    else:
        typer.echo(f"{count:,} discarded.")


def _selection(
    cluster: Cluster,
    ids: Sequence[str] | None,
    reason: Sequence[str] | None,
    service: Sequence[str] | None,
    topic: Sequence[str] | None,
    job: Sequence[str] | None,
    item: Sequence[str] | None,
    since: str | None,
    until: str | None,
) -> Selection:
    now = datetime.now(UTC).astimezone()
    return Selection(
        cluster.settings.prefix,
        codes=frozenset(reason or ()),
        services=frozenset(service or ()),
        topics=frozenset(topic or ()),
        jobs=frozenset(job or ()),
        items=frozenset(item or ()),
        since=None if since is None else since_milliseconds(since, now),
        until=None if until is None else since_milliseconds(until, now),
        ids=frozenset(parse_id(text) for text in ids or ()),
    )


def _newest(letters: list[tuple[DeadLetter, State]], limit: int) -> list[tuple[DeadLetter, State]]:
    return sorted(letters, key=lambda each: each[0].at)[-limit:] if limit else []


def _print_letters(letters: Sequence[tuple[DeadLetter, State]], prefix: str) -> None:
    if not letters:
        return
    rows = [
        (
            letter.name,
            _time(letter.at),
            _safe(letter.code),
            _safe(letter.group.removeprefix(prefix)),
            _safe(letter.topic.removeprefix(prefix)),
            letter.attempt,
            state,
            _safe(letter.item),
        )
        for letter, state in letters
    ]
    print_table(("id", "put aside", "reason", "service", "topic", "attempt", "state", "item"), rows)
    typer.echo()


def _print_histogram(histogram: Histogram, prefix: str, last: str) -> None:
    if not histogram.counts:
        return
    rows = [
        (
            count,
            _safe(row[0]),
            _safe(row[1].removeprefix(prefix)),
            _safe(row[2].removeprefix(prefix)),
            row[3],
            _time(histogram.oldest[row]),
            _time(histogram.newest[row]),
        )
        for row, count in histogram.counts.most_common()
    ]
    print_table(("count", "reason", "service", "topic", last, "oldest", "newest"), rows)
    typer.echo()


def _print_outcome(survey: Survey, outcome: Redriven, prefix: str, *, dry_run: bool) -> None:
    _print_histogram(survey.histogram, prefix, "what happens")
    for fate in FATES:
        if fate != "redrive" and survey.count(fate):
            typer.echo(f"{survey.count(fate):,} {fate}: {WHY[fate]}.")
    for file in survey.files:
        typer.echo(f"  headrace replay --file {_safe(file)}")
    if dry_run:
        typer.echo(f"{len(survey.chosen):,} would be re-driven ({size_text(survey.size)}); nothing was changed.")
        return
    if outcome.found:
        typer.echo(f"{outcome.found:,} had been sent by a run that was killed before it could say so; recorded now.")
    for letter, problem in sorted(outcome.refused.items()):
        typer.echo(f"{letter[0]}:{letter[1]} was refused: {problem}", err=True)
    if outcome.twice:
        names = ", ".join(f"{partition}:{offset}" for partition, offset in outcome.twice)
        typer.echo(f"{len(outcome.twice):,} went twice: {names}")
    left = f"; {outcome.left:,} are left" if outcome.left else ""
    typer.echo(f"{outcome.sent:,} re-driven{left}.")


def _outcome_object(survey: Survey, outcome: Redriven, dry_run: bool, code: int) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "chosen": len(survey.chosen),
        "bytes": survey.size,
        "redriven": outcome.sent,
        "found": outcome.found,
        "twice": [f"{partition}:{offset}" for partition, offset in outcome.twice],
        "refused": {f"{place[0]}:{place[1]}": problem for place, problem in outcome.refused.items()},
        "left": outcome.left,
        "stay": {fate: survey.count(fate) for fate in FATES if fate != "redrive"},
        "files_in_pieces": list(survey.files),
        "counts": _counts(survey.histogram),
        "exit_code": code,
    }


def _letter_object(letter: DeadLetter, state: State, decision: Decision | None) -> dict[str, Any]:
    return {
        "kind": "dead-letter",
        "id": letter.name,
        "state": state,
        "reason": letter.code,
        "service": letter.group,
        "stage": letter.stage,
        "topic": letter.topic,
        "partition": letter.source_partition,
        "offset": letter.source_offset,
        "item": letter.item,
        "job": letter.job,
        "attempt": letter.attempt,
        "bytes": letter.size,
        "put_aside": _time(letter.at),
        "first_failed": _time(letter.first_failed) if letter.first_failed >= 0 else None,
        "because": decision.because if decision else None,
    }


def _counts(histogram: Histogram) -> list[dict[str, Any]]:
    return [
        {"reason": reason, "service": group, "topic": topic, "state": state, "count": count}
        for (reason, group, topic, state), count in histogram.counts.most_common()
    ]


def _time(milliseconds: int) -> str:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)


def _safe(text: str) -> str:
    return printable(text.encode("utf-8", "replace"))
