"""What state a job is in: a pure function of what is wanted of it and what its books say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from headrace.events import Books, Command, Job, JobState
from headrace.jobs.books import FileBooks

FINAL: frozenset[JobState] = frozenset({"balanced", "failed", "stopped"})

GROUPS = "groups"
RECORDS = "records"
FILES = "files"
STANDING = "standing"
PROBLEM = "problem"


class Exit(IntEnum):
    """What commands tell scripts. Source: design section 4, exit codes."""

    DELIVERED = 0
    FAILED = 1
    PUT_ASIDE = 3
    DETACHED = 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command asks for, read from its parameters.

    Parameters:
        groups: those that must account for every file.
        files: how many files the source announced in all, once it has announced the last; None before.
        standing: there is no last one.
        records: dataset and group, for those that must account for every record of the dataset.
        problem: why the source will announce no more: the job has failed, once what it did announce is accounted for.
    """

    groups: tuple[str, ...] = ()
    files: int | None = None
    standing: bool = False
    records: tuple[tuple[str, str], ...] = ()
    problem: str | None = None

    @classmethod
    def of(cls, command: Command) -> Wanted:
        """What the parameters say; what is malformed was not said."""
        files = command.params.get(FILES, "")
        return cls(
            groups=tuple(filter(None, command.params.get(GROUPS, "").split(","))),
            files=int(files) if files.isascii() and files.isdigit() and len(files) < 19 else None,
            standing=command.params.get(STANDING) == "true",
            records=tuple(_pairs(command.params.get(RECORDS, ""))),
            problem=command.params.get(PROBLEM),
        )

    def params(self) -> dict[str, str]:
        """The same as parameters of a command."""
        found = {GROUPS: ",".join(self.groups)}
        if self.files is not None:
            found[FILES] = str(self.files)
        if self.standing:
            found[STANDING] = "true"
        if self.records:
            found[RECORDS] = ",".join(":".join(pair) for pair in self.records)
        if self.problem is not None:
            found[PROBLEM] = self.problem
        return found


@dataclass(frozen=True, slots=True)
class Assessment:
    """The state of a job, its books, and what is missing, in words."""

    state: JobState
    books: list[Books]
    reason: str | None


def assess(command: Command, files: FileBooks) -> Assessment:
    """The state that follows from what is wanted and what has been seen.

    A job is done when its source has said that all is announced, every announced file is accounted for in every group
    that must have it, and none is left half-way. A standing job never is, and balances per finished file. One that is
    to stop, or whose source gave up, is done when what was announced by then is accounted for; what was only begun does
    not count.
    """
    wanted = Wanted.of(command)
    words = files.words()
    stop = command.desired == "stop"
    finished = words["announced"] + words["aborted"] + words["expired"]
    unannounced = max(0, (wanted.files or 0) - words["announced"])
    begun = files.begun(wanted.groups)
    partial = stop or wanted.standing or wanted.problem is not None

    def expected(group: str) -> int | None:
        if partial:
            return finished + files.early(group, None, "sending")
        if wanted.files is None:
            return None
        # A receipt may be faster than the announcement: it is of one that is still to come.
        return finished + words["sending"] + max(unannounced, files.early(group, None))

    books = [files.book(group, expected(group)) for group in wanted.groups]
    missing = {group: count for group in wanted.groups if (count := files.unsettled(group))}
    fanned = not missing and not begun and not unannounced and (partial or wanted.files is not None)
    books += [files.lines.book(dataset, group, complete=fanned) for dataset, group in wanted.records]
    others = set(files.groups) - set(wanted.groups) - {group for _, group in wanted.records}
    books += [files.book(group, None) for group in sorted(others)]
    for dataset, group in wanted.records:
        if count := files.lines.missing(dataset, group):
            missing[group] = count
    complete = partial or (wanted.files is not None and not unannounced and not begun)
    if complete and not missing and (stop or not wanted.standing):
        failed = sum(book.failed for book in books if book.expected is not None)
        ended: JobState = "stopped" if stop else "failed" if failed or wanted.problem is not None else "balanced"
        return Assessment(ended, books, wanted.problem or (f"{failed} failed" if failed else None))
    state: JobState = "stopping" if stop else "running" if words or files.groups else "waiting"
    return Assessment(state, books, _what_is_missing(missing, unannounced, 0 if stop or wanted.problem else begun))


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for each in filter(None, text.split(",")):
        dataset, _, group = each.partition(":")
        yield dataset, group


def _what_is_missing(missing: Mapping[str, int], unannounced: int, begun: int) -> str | None:
    parts = [f"{begun} being sent"] if begun else []
    parts += [f"{unannounced} not announced"] if unannounced else []
    parts += [f"{count} wait for {group}" for group, count in missing.items()]
    return "; ".join(parts) or None


def exit_code(job: Job, command: Command | None) -> Exit:
    """What a job that is done means for scripts; one that is not is detached from."""
    required = [book for book in job.books if book.expected is not None]
    if job.state not in FINAL:
        return Exit.DETACHED
    if job.state == "failed" or any(book.failed for book in required):
        return Exit.FAILED
    wanted = Wanted() if command is None else Wanted.of(command)
    if job.state == "stopped" and not wanted.standing and wanted.files is None:
        return Exit.FAILED
    return Exit.PUT_ASIDE if put_aside(required) else Exit.DELIVERED


def put_aside(books: Sequence[Books]) -> int:
    """Entries that wait for an operator."""
    return sum(book.dead_lettered + book.held for book in books)
