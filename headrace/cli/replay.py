"""`headrace replay`: make again what a service's destination lacks, one file, or everything in another place."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.cli.output import print_json, print_table
from headrace.cli.progress import advancing
from headrace.cli.runtime import Session, begin, run_service, stopping
from headrace.cli.serving import Target, assignments, configured, target
from headrace.cli.verify import since_milliseconds
from headrace.deadletters.closing import close_letters
from headrace.errors import ConfigError
from headrace.kafka.clients import Cluster
from headrace.kafka.reading import offsets_at
from headrace.proof.awaiting import Awaiting, ends_of_receipts
from headrace.proof.bounded import BoundedPass, PassStopped
from headrace.proof.destinations import Look, looking, read_file
from headrace.proof.groups import UnknownSink
from headrace.proof.log import Name
from headrace.proof.records import RecordPlaces
from headrace.proof.replay import Plan, Planner, Window, chunk_bounds, confirm, expected
from headrace.proof.report import printable, size_text
from headrace.proof.rewind import rewind, wait_until_idle, withdraw
from headrace.proof.stores import StoreReader, buckets_in
from headrace.stage.contract import Partition
from headrace.topics import CHUNK_TOPICS, Topic

FILES_SHOWN = 20
DETACHED = 4


class NothingToReplay(ConfigError):
    """Nothing is named. Say --service NAME for everything of a service, or --file FILE for one file."""

    code = "nothing-to-replay"


class NotReplayable(ConfigError):
    """The service {service} cannot be replayed: {problem}."""

    code = "not-replayable"


class NobodyHasIt(ConfigError):
    """No service that this machine's settings describe has read files. Say --service NAME, and --set NAME=VALUE."""

    code = "nobody-has-it"


@dataclass
class Result:
    """What one service's replay came to."""

    plan: Plan
    outcomes: Counter[str] = field(default_factory=Counter)
    closed: int = 0
    exit_code: int = 0


def replay(
    context: typer.Context,
    service: Annotated[str | None, typer.Option(help="The service, or its section: assembler.site_b.")] = None,
    sink: Annotated[str | None, typer.Option(help="Which sink of the service.")] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME|OFFSET", help="Files sent since a time, in the last … (7d), or offset."),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME|OFFSET", help="Files begun before a time, … ago, or an offset.")
    ] = None,
    file: Annotated[
        str | None, typer.Option(help="One file: its path, the end of its path, or its id; the service may run.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="FILE is the whole path below this source's root.")] = None,
    into: Annotated[
        str | None, typer.Option(metavar="DIR|BUCKET", help="Rebuild everything there instead; the service may run.")
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Also try again what failed or is among the dead letters.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be made again.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Do not run the service here; it makes the files when it starts.")
    ] = False,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of the service; repeatable.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Address of the object store of buckets that no settings name.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Make again, from the log, what a service should have at its destination and has not.

    What is there and right is left alone: an intact destination sees no write. Of a whole service nothing may run
    meanwhile: it is set back, run here until the files are made, and can then be started again. Exit code 0: everything
    is there; 1: something is not, or can never be; 3: dead letters stay; 4: it is left to the service.
    """
    session = begin(context, "replay")
    cluster = session.cluster()
    name = None if file is None else Name(os.fsencode(file), source)
    overrides = assignments(setting)
    if service is None and (file is None or into is not None):
        raise NothingToReplay
    chosen = [target(session, cluster, service, sink, overrides)] if service else configured(session, cluster)
    chosen = [each for each in chosen if _reads_files(each, told=service is not None)]
    if not chosen:
        raise NobodyHasIt
    run = _Run(session, cluster, overrides, dry_run=dry_run, quiet=json)
    with stopping(threading.Event()) as stop:
        run.stop = stop
        if into is not None:
            code = run.elsewhere(chosen[0], into, name, _window(cluster, _files_of(chosen[0]), start, end))
        else:
            results = []
            for each in chosen:
                look = _looking(session, cluster, each, endpoint)
                topics = _files_of(each)
                window = _window(cluster, topics, start, end) if start or end else None
                planner = Planner(cluster, each.group, topics, look, name, window, failed or file is not None)
                try:
                    results.append(run.one_file(each, planner) if name else run.service(each, planner, detach=detach))
                except UnknownSink:
                    # Of all that could run here, some never did.
                    if service is not None or (each is chosen[-1] and not results):
                        raise
            code = _tell(cluster, results, dry_run=dry_run, json=json)
    raise typer.Exit(code)


@dataclass
class _Run:
    session: Session
    cluster: Cluster
    overrides: Mapping[str, Any]
    dry_run: bool
    quiet: bool
    stop: threading.Event = field(default_factory=threading.Event)

    def plan(self, planner: Planner) -> Plan:
        with advancing("looking at the destination", quiet=self.quiet) as report:
            return planner.plan(lambda count: report(count, count))

    def service(self, chosen: Target, planner: Planner, *, detach: bool) -> Result:
        """Set a stopped service back, and run it until everything is made again."""
        session_time = chosen.settings.session_timeout.total_seconds()
        if not self.dry_run:
            wait_until_idle(self.cluster, chosen.group, session_time, self.session.settings.state, _say)
        result = Result(self.plan(planner))
        work = result.plan.work
        if self.dry_run or not work:
            result.exit_code = 1 if result.plan.impossible else 0
            return result
        starts = ends_of_receipts(self.cluster)
        rewind(self.cluster, chosen.group, work)
        withdraw(self.cluster, chosen.group, work)
        if detach:
            _say(f"{len(work):,} files are made when {chosen.section} starts.")
            result.exit_code = DETACHED
            return result
        items = {each.item for each in work}
        with advancing("making again", quiet=self.quiet) as report:
            awaiting = Awaiting(self.cluster, chosen.group, items, starts, report)
            self._run_until(chosen, awaiting)
        result.outcomes = Counter(outcome for outcome, _ in awaiting.outcomes.values())
        good = {item for item, (outcome, _) in awaiting.outcomes.items() if outcome in ("delivered", "unchanged")}
        result.closed = close_letters(self.cluster, chosen.group, good)
        result.exit_code = _exit_code(result) if awaiting.complete else DETACHED
        return result

    def _run_until(self, chosen: Target, awaiting: Awaiting) -> None:
        if self.session.settings.services.external:
            _say(f"start {chosen.section} where it runs; waiting for its receipts")
            awaiting.run(self.stop)
            return
        own = chosen.settings.model_copy(update={"metrics_port": 0})
        watcher = threading.Thread(target=awaiting.run, args=(self.stop,), name="receipts")
        watcher.start()
        try:
            run_service(
                chosen.entry, chosen.section, self.session.settings, own, self.cluster, self.stop,
                sources=self.session.sources,
            )  # fmt: skip
        finally:
            self.stop.set()
            watcher.join()

    def one_file(self, chosen: Target, planner: Planner) -> Result:
        """Make the versions of one file again, beside the service if it runs."""
        result = Result(self.plan(planner))
        work = result.plan.work
        if self.dry_run or not work:
            result.exit_code = 1 if result.plan.impossible else 0
            return result
        window: dict[Partition, tuple[int, int]] = {}
        for each in work:
            first, last = window.get(each.place, (each.first, each.last))
            window[each.place] = (min(first, each.first), max(last, each.last + 1))
        items = {each.item for each in work}
        stage = chosen.stage(self.session, self.cluster, self.overrides)
        bounded = BoundedPass(
            stage, self.cluster, chosen.group, window, items=items, newest=result.plan.newest, in_books=True
        )
        try:
            with advancing("making again", quiet=self.quiet) as report:
                tally = bounded.run(self.stop, report)
        except PassStopped:
            result.exit_code = DETACHED
            return result
        outcomes = {item: outcome for item, (outcome, _) in tally.outcomes.items() if item in items}
        result.outcomes = Counter(outcomes.values())
        result.outcomes["incomplete"] += len(items - outcomes.keys())
        good = {item for item, outcome in outcomes.items() if outcome in ("delivered", "unchanged")}
        result.closed = close_letters(self.cluster, chosen.group, good)
        result.exit_code = _exit_code(result)
        return result

    def elsewhere(self, chosen: Target, into: str, name: Name | None, window: Window) -> int:
        """Rebuild what the log holds in another place, outside the books."""
        setting = chosen.entry.destination
        if setting is None:
            raise NotReplayable(service=chosen.section, problem="it has no destination that could be another one")
        if _same_place(getattr(chosen.settings, setting), into):
            raise NotReplayable(service=chosen.section, problem=f"{into} is its own destination; leave out --into")
        there = list(expected(self.cluster, name, window))
        wanted = {sent.file.hex(): sent for sent, complete in there if complete}
        lost = len(there) - len(wanted)
        size = sum(sent.size or 0 for sent in wanted.values())
        summary: dict[str, Any] = {
            "into": into, "dry_run": self.dry_run, "files": len(wanted), "bytes": size, "expired": lost,
        }  # fmt: skip
        code = 1 if lost else 0
        if not self.dry_run:
            stage = chosen.stage(self.session, self.cluster, {**self.overrides, setting: into})
            items = None if name is None else wanted.keys()
            bounded = BoundedPass(stage, self.cluster, chosen.group, window, items=items, in_books=False)
            try:
                with advancing("rebuilding", quiet=self.quiet) as report:
                    tally = bounded.run(self.stop, report)
            except PassStopped:
                return DETACHED
            outcomes = Counter(tally.outcomes[item][0] for item in wanted.keys() & tally.outcomes.keys())
            outcomes_left = len(wanted) - outcomes.total()
            summary |= {"outcomes": dict(outcomes), "incomplete": outcomes_left}
            bad = outcomes["failed"] + outcomes_left
            code = 1 if bad or lost else 3 if outcomes["dead_lettered"] + outcomes["held"] else 0
        summary["exit_code"] = code
        if self.quiet:
            print_json(summary)
        else:
            _print_elsewhere(summary)
        return code


def _files_of(chosen: Target) -> list[Topic]:
    """The topics that a service reads files from."""
    return [topic for name, topic in CHUNK_TOPICS.items() if name in chosen.entry.reads]


def _window(cluster: Cluster, topics: Sequence[Topic], start: str | None, end: str | None) -> Window:
    bounds = chunk_bounds(cluster, topics)
    now = datetime.now(UTC).astimezone()

    def offsets(text: str) -> Mapping[Partition, int]:
        if text.isdecimal():
            return dict.fromkeys(bounds, int(text))
        since = since_milliseconds(text, now)
        found = {place: high for place, (_, high) in bounds.items()}
        for topic in topics:
            for number, offset in offsets_at(cluster, topic, since).items():
                found[Partition(topic.name, number)] = offset
        return found

    lows = offsets(start) if start else {}
    highs = offsets(end) if end else {}
    return {place: (lows.get(place, 0), min(high, highs.get(place, high))) for place, (_, high) in bounds.items()}


def _looking(session: Session, cluster: Cluster, chosen: Target, endpoint: str | None) -> Look:
    """How to look at the destination of a service; one that has none may have topics of records."""
    records = RecordPlaces(cluster).check
    if chosen.entry.destination is None:
        return looking(lambda _received: None, records)
    store = StoreReader(session.sources, endpoint, buckets_in(chosen.settings))
    home = getattr(chosen.settings, chosen.entry.destination)
    at_place = partial(
        confirm,
        readers={"file": read_file, "s3": store.read},
        heads={"s3": store.head},
        home=os.fsencode(home.resolve()) if isinstance(home, Path) else None,
    )
    return looking(at_place, records)


def _reads_files(chosen: Target, *, told: bool) -> bool:
    if _files_of(chosen):
        return True
    if told:
        raise NotReplayable(service=chosen.section, problem="it reads no files")
    return False


def _same_place(own: object, other: str) -> bool:
    return own.resolve() == Path(other).resolve() if isinstance(own, Path) else own == other


def _exit_code(result: Result) -> int:
    counts = result.outcomes
    if result.plan.impossible or counts["failed"] or counts["incomplete"]:
        return 1
    return 3 if counts["dead_lettered"] or counts["held"] else 0


def _tell(cluster: Cluster, results: Sequence[Result], *, dry_run: bool, json: bool) -> int:
    code = next((wanted for wanted in (1, 4, 3) if any(each.exit_code == wanted for each in results)), 0)
    if json:
        print_json({"dry_run": dry_run, "exit_code": code, "services": [_object(each) for each in results]})
        return code
    for each in results:
        _print_result(each, cluster.settings.prefix, dry_run=dry_run)
    return code


def _object(result: Result) -> dict[str, Any]:
    plan = result.plan
    return {
        "group": plan.group,
        "again": len(plan.work),
        "bytes": plan.size,
        "why": dict(Counter(each.why for each in plan.work)),
        "kept": dict(plan.kept),
        "outcomes": dict(+result.outcomes),
        "dead_letters_closed": result.closed,
        "problems": plan.examples,
        "exit_code": result.exit_code,
    }


def _print_result(result: Result, prefix: str, *, dry_run: bool) -> None:
    plan = result.plan
    typer.echo(f"{plan.group.removeprefix(prefix)}:")
    rows: list[tuple[int, str]] = [
        (count, f"to make again: {why.replace('_', '-')}")
        for why, count in Counter(each.why for each in plan.work).most_common()
    ]
    rows += [(count, f"left alone: {reason.replace('_', '-')}") for reason, count in plan.kept.most_common()]
    if rows:
        print_table(("count", "what"), rows)
    for each in plan.work[:FILES_SHOWN]:
        typer.echo(f"  {each.why}: {printable(each.path)} ({size_text(each.size)})")
    if len(plan.work) > FILES_SHOWN:
        typer.echo(f"  … and {len(plan.work) - FILES_SHOWN:,} more")
    for problem in plan.examples:
        typer.echo(f"  {printable(problem.encode('utf-8', 'replace'))}", err=True)
    if dry_run:
        typer.echo(f"{len(plan.work):,} files ({size_text(plan.size)}) would be made again; nothing was changed.")
    elif not plan.work:
        typer.echo("Nothing is to be made again.")
    else:
        typer.echo(f"{len(plan.work):,} files ({size_text(plan.size)}): {_words(result.outcomes)}.")
        if result.closed:
            typer.echo(f"{result.closed:,} dead letters closed: their files are there.")


def _print_elsewhere(summary: Mapping[str, Any]) -> None:
    if summary["dry_run"]:
        typer.echo(f"{summary['files']:,} files ({size_text(summary['bytes'])}) would be rebuilt in {summary['into']}.")
    else:
        told = _words(Counter(summary["outcomes"]) + Counter(incomplete=summary["incomplete"]))
        typer.echo(f"{summary['files']:,} files ({size_text(summary['bytes'])}) into {summary['into']}: {told}.")
    if summary["expired"]:
        typer.echo(f"{summary['expired']:,} can no longer be rebuilt: their frames have expired.", err=True)


def _words(outcomes: Mapping[str, int]) -> str:
    counts: Iterable[tuple[str, int]] = ((name.replace("_", "-"), count) for name, count in outcomes.items() if count)
    return ", ".join(f"{count:,} {name}" for name, count in counts) or "nothing yet"


def _say(text: str) -> None:
    typer.echo(text, err=True)
