"""`headrace jobs`: list, show, follow and stop jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from headrace.cli.copies import own_copies
from headrace.cli.following import follow as follow_to_the_end
from headrace.cli.following import heed_late_stop
from headrace.cli.interrupts import OnInterrupt, interrupts
from headrace.cli.job_report import as_json, books_in_words, in_words, job_reporting, total
from headrace.cli.output import print_json, print_table
from headrace.cli.runtime import begin
from headrace.events import Books, Command, Job, Outcome
from headrace.jobs.assessment import FINAL, Exit, Wanted, assess
from headrace.jobs.books import OUTCOMES
from headrace.jobs.commands import UnknownJob, stop_command
from headrace.jobs.evidence import Evidence, read_evidence
from headrace.jobs.following import JobFollower
from headrace.jobs.ids import check_job_id
from headrace.jobs.log import JobWriter, Known, read_jobs

app = typer.Typer(
    help="List, show, follow and stop jobs.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

NOT_GOOD: frozenset[Outcome] = frozenset({"dead_lettered", "held", "failed"})
SHOWN = 20


@app.command("list")
def list_jobs(
    context: typer.Context,
    open_only: Annotated[bool, typer.Option("--open", help="Only jobs that are not done.")] = False,
    json: JsonOption = False,
) -> None:
    """List all jobs, the newest first."""
    found = read_jobs(begin(context).cluster())
    jobs = sorted((_entry(known) for known in found.values() if known.wanted), key=lambda each: -each.started)
    jobs = [job for job in jobs if not (open_only and job.state in FINAL)]
    if json:
        print_json([as_json(job) for job in jobs])
        return
    print_table(
        ("job", "kind", "state", "started", "accounted for", "missing"),
        [
            (job.job, job.kind, job.state, _time(job.started), "  ".join(map(_fraction, job.books)), job.reason or "")
            for job in jobs
        ],
    )


@app.command("show")
def show(
    context: typer.Context,
    job: JobArgument,
    everything: Annotated[bool, typer.Option("--all", help=f"Name every file and line, not only {SHOWN}.")] = False,
    json: JsonOption = False,
) -> None:
    """Show the books of a job, drawn up from the log now, and what is missing."""
    cluster = begin(context).cluster()
    known = read_jobs(cluster, check_job_id(job)).get(job)
    wanted = None if known is None else known.wanted
    if known is None or wanted is None:
        raise UnknownJob(job=job)
    evidence = read_evidence(cluster, job)
    assessment = assess(wanted, evidence.books)
    entry = _entry(known)
    now = Job(
        job=job,
        kind=wanted.kind,
        state=assessment.state,
        books=assessment.books,
        reason=assessment.reason,
        started=entry.started,
        updated=entry.updated,
        ended=entry.ended if assessment.state in FINAL else None,
    )
    most = None if everything else SHOWN
    problems = {book.group: _problems(evidence, book.group)[:most] for book in now.books}
    missing = {group: _missing(evidence, group)[:most] for group in Wanted.of(wanted).groups}
    lines = _lines(evidence, most)
    agrees = known.job is not None and (known.job.state, known.job.books) == (now.state, now.books)
    if json:
        print_json(
            {
                **as_json(now),
                "by": wanted.by,
                "desired": wanted.desired,
                "params": wanted.params,
                "missing": missing,
                "problems": problems,
                "lines": lines,
                "ledger_agrees": agrees,
            }
        )
        return
    for line in (*_in_words(now, wanted, missing, problems), *_lines_in_words(lines)):
        typer.echo(line)
    if not agrees:
        typer.echo("the ledger has not written these books yet; it does while one runs: headrace jobs follow " + job)


@app.command("follow")
def follow(
    context: typer.Context,
    job: JobArgument,
    on_interrupt: Annotated[
        OnInterrupt, typer.Option(help="What Ctrl-C does: leave the job alone, or stop it.")
    ] = OnInterrupt.DETACH,
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """Follow a job until its books balance.

    Exit codes: 0 everything delivered or unchanged, 1 something failed, 3 balanced with dead letters or held items, 4
    detached with Ctrl-C. A second Ctrl-C stops the job.
    """
    session = begin(context, "jobs")
    cluster = session.cluster()
    if check_job_id(job) not in read_jobs(cluster, job):
        raise UnknownJob(job=job)
    report = job_reporting(json=json)
    logs = session.settings.state / "jobs" / f"{job}.log"
    with interrupts(on_interrupt) as asked, JobFollower(cluster, job) as follower:
        writer = JobWriter(cluster)
        with own_copies(context, session, (), logs):
            code = follow_to_the_end(follower, writer, report, asked)
            report.close(follower.known.job, code)
        if code is Exit.DETACHED:
            heed_late_stop(follower, writer, asked)
    raise typer.Exit(code)


@app.command("stop")
def stop(context: typer.Context, job: JobArgument) -> None:
    """Stop a job: its source sends no more; what is on the log already is still delivered."""
    cluster = begin(context).cluster()
    JobWriter(cluster).write(stop_command(job, read_jobs(cluster, check_job_id(job)).get(job)))
    typer.echo(f"{job} is to stop; see how far it is: headrace jobs show {job}")


def _entry(known: Known) -> Job:
    """What the ledger wrote last, or what can be said before it has."""
    wanted, job = known.wanted, known.job
    if job is not None:
        return job
    at = 0 if wanted is None else wanted.at
    return Job(job=wanted.job if wanted else "", kind=wanted.kind if wanted else "", state="waiting", started=at,
               updated=at)  # fmt: skip


def _missing(evidence: Evidence, group: str) -> list[str]:
    return sorted(_name(evidence, file) for file in evidence.books.files_without(group))


def _problems(evidence: Evidence, group: str) -> list[dict[str, Any]]:
    return sorted(
        (
            {"file": _name(evidence, file), "outcome": outcome, "code": evidence.codes.get((file, group))}
            for file, outcome in evidence.books.files_with(group, NOT_GOOD)
        ),
        key=lambda each: str(each["file"]),
    )


def _lines(evidence: Evidence, most: int | None) -> list[dict[str, Any]]:
    """What the fan-out made of each file line by line; the lines that it put aside are named."""
    found = []
    for file, lines in evidence.books.lines.fanned.items():
        sums: Counter[str] = Counter()
        for (outcome, _), count in lines.counts().items():
            sums[outcome] += count
        aside = [{"line": line, "outcome": outcome, "code": code} for line, outcome, code in lines.put_aside()[:most]]
        found.append({"file": _name(evidence, file), "lines": sums.total(), **sums, "put_aside": aside})
    return sorted(found, key=lambda each: str(each["file"]))


def _lines_in_words(files: list[dict[str, Any]]) -> Iterator[str]:
    for each in files:
        name = _printable(each["file"])
        sums = ", ".join(f"{each[key]} {key.replace('_', '-')}" for key in OUTCOMES if key in each)
        yield f"  lines of {name}: {each['lines']} = {sums or 'none'}"
        for bad in each["put_aside"]:
            yield f"  {bad['outcome'].replace('_', '-')}: line {bad['line']} of {name} ({bad['code']})"


def _name(evidence: Evidence, file: bytes) -> str:
    event = evidence.versions.get(file)
    return file.hex() if event is None else event.path.decode("utf-8", "backslashreplace")


def _in_words(job: Job, wanted: Command, missing: dict[str, list[str]], problems: dict[str, Any]) -> list[str]:
    ended = "" if job.ended is None else f", ended {_time(job.ended)}"
    lines = [in_words(job), f"  {job.kind} by {wanted.by}, started {_time(job.started)}{ended}", *books_in_words(job)]
    for group, files in missing.items():
        lines += [f"  not yet at {group}: {_printable(file)}" for file in files]
    for group, found in problems.items():
        lines += [
            f"  {each['outcome'].replace('_', '-')} at {group}: {_printable(each['file'])}"
            + (f" ({each['code']})" if each["code"] else "")
            for each in found
        ]
    return lines


def _printable(name: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in name)


def _fraction(book: Books) -> str:
    return f"{book.group} {total(book)}/{'?' if book.expected is None else book.expected}"


def _time(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
