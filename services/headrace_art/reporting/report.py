"""One load's report: the summary for everybody, and, where asked for, the rows for those who must mend them."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import orjson

from headrace.datasets.catalogue import Datasets
from headrace.errors import ConfigError, TransientError
from headrace.jobs.assessment import Exit, Wanted, assess
from headrace.jobs.commands import UnknownJob
from headrace.jobs.evidence import Evidence, read_evidence
from headrace.jobs.log import read_jobs
from headrace.kafka.clients import Cluster
from headrace_art.client import ArtSettings
from headrace_art.confirmed import Confirmed
from headrace_art.mapping import StudentMapper
from headrace_art.reporting.absent import Student, absent
from headrace_art.reporting.rejects import Reject, Rejects
from headrace_art.reporting.summary import (
    BATCH_COLUMNS,
    COLUMNS,
    OPEN,
    FileSummary,
    batch_table,
    summaries,
    table,
)
from headrace_art.reporting.upload_form import COLUMNS as UPLOAD_COLUMNS
from headrace_art.reporting.upload_form import upload_row

STUDENTS = "art_students"
BEFORE = 60_000
"""Milliseconds that records are looked for before their file's last word: it and they come onto the log together."""
PATIENCE = 0.05


class NotALoad(ConfigError):
    """The job {job} is a {kind}, no load of students. See: headrace jobs list."""

    code = "not-a-load"


class ReportNotWritten(ConfigError):
    """The report cannot be written to {path}: {problem}. Choose another folder with --out."""

    code = "report-not-written"


class TableSlow(TransientError):
    """The confirmed schools are not read after {seconds:g} s. Try again."""

    code = "table-slow"


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of a load.

    Parameters:
        state: of the job, from the log as it is now.
        absent: by file, the students that are known and not in it; None where that cannot be told.
    """

    job: str
    state: str
    reason: str | None
    files: list[FileSummary]
    absent: Mapping[bytes, list[Student] | None] = field(default_factory=dict)

    @property
    def exit_code(self) -> Exit:
        """What it means for scripts."""
        sums = [each.sums for each in self.files]
        if any(each.refused for each in self.files) or any(each["failed"] for each in sums) or self.state == "failed":
            return Exit.FAILED
        if self.state not in ("balanced", "stopped") or any(each[OPEN] for each in sums):
            return Exit.DETACHED
        return Exit.PUT_ASIDE if any(each["dead_lettered"] or each["held"] for each in sums) else Exit.DELIVERED

    def as_json(self) -> dict[str, Any]:
        """As plain values, of which none is a person's."""
        files = []
        for each in self.files:
            missing = self.absent.get(each.file)
            files.append({**each.as_json(), "known_not_in_file": None if missing is None else len(missing)})
        return {
            "job": self.job, "state": self.state, "reason": self.reason, "exit_code": int(self.exit_code),
            "adds_up": all(each.adds_up for each in self.files), "files": files,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Found:
    evidence: Evidence
    readers: Mapping[str, str]


class Reporter:
    """Draws up reports from the log."""

    def __init__(self, cluster: Cluster, datasets: Datasets, kinds: Sequence[str]) -> None:
        self._cluster, self._datasets, self._kinds = cluster, datasets, kinds

    def report(self, job: str, *, with_absent: bool = True) -> LoadReport:
        """The report of a job as the log is now.

        Raises UnknownJob, NotALoad, KafkaUnreachable.
        """
        command = self._command(job)
        found = self._found(job)
        files = summaries(found.evidence, found.readers)
        assessed = assess(command, found.evidence.books)
        gone: dict[bytes, list[Student] | None] = {}
        for each in files:
            if with_absent and each.dataset == STUDENTS and each.rows is not None and not each.partial:
                records = len(found.evidence.books.lines.records(each.file))
                gone[each.file] = absent(
                    self._cluster, self._datasets[STUDENTS], each.file, records, self._since(found.evidence, each.file)
                )
        return LoadReport(job, assessed.state, assessed.reason, files, gone)

    def rejects(self, job: str, dataset: str) -> list[Reject]:
        """The rows of a job that are not at ART."""
        found = self._found(job)
        lines = found.evidence.books.lines
        files = lines.files(dataset)
        said = {
            file: [told for told in (lines.fanned.get(file), lines.said.get((found.readers[dataset], file))) if told]
            for file in files
        }
        since = min((self._since(found.evidence, file) for file in files), default=0)
        return Rejects(self._cluster, self._datasets[dataset], said, since).read()

    def mapper(self, settings: ArtSettings) -> StudentMapper:
        """Makes students of rows, with the schools that ART has confirmed."""
        confirmed = Confirmed(self._cluster)
        confirmed.start()
        try:
            deadline = time.monotonic() + BEFORE / 1000
            while not confirmed.complete:
                if time.monotonic() > deadline:
                    raise TableSlow(seconds=BEFORE / 1000)
                time.sleep(PATIENCE)
        finally:
            confirmed.close()
        return StudentMapper(settings.mapping, confirmed.schools)

    def _command(self, job: str) -> Any:
        known = read_jobs(self._cluster, job).get(job)
        if known is None or known.wanted is None:
            raise UnknownJob(job=job)
        if known.wanted.kind not in self._kinds:
            raise NotALoad(job=job, kind=known.wanted.kind)
        return known.wanted

    def _found(self, job: str) -> _Found:
        return _Found(read_evidence(self._cluster, job), dict(Wanted.of(self._command(job)).records))

    def _since(self, evidence: Evidence, file: bytes) -> int:
        return evidence.versions[file].at // 1000 - BEFORE


def write_summary(report: LoadReport, out: Path) -> list[Path]:
    """Write the report as JSON and as CSV, its batches in a file of their own. Counts only. Raises ReportNotWritten."""
    with _folder(out):
        whole, counts = out / f"{report.job}.json", out / f"{report.job}.csv"
        whole.write_bytes(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        batches = out / f"{report.job}-batches.csv"
        for path, columns, rows in (
            (counts, COLUMNS, table(report.job, report.files)),
            (batches, BATCH_COLUMNS, batch_table(report.job, report.files)),
        ):
            with path.open("w", encoding="utf-8", newline="") as file:
                _rows(file, columns, rows)
    return [whole, counts, batches]


def write_rows(report: LoadReport, rejects: Mapping[str, list[Reject]], mapper: StudentMapper, out: Path) -> list[Path]:
    """Write the rows that a person must look at, each file readable by its owner only: they hold personal data.

    Raises ReportNotWritten.
    """
    names = {each.file: each.name for each in report.files}
    start = out / report.job
    with _folder(out):
        reasons, forms, raw = [], [], []
        for dataset, found in rejects.items():
            for each in found:
                number = ""
                if dataset == STUDENTS and each.row is not None:
                    forms.append(upload_row(mapper, each.row))
                    number = str(len(forms) + 1)
                elif each.raw is not None:
                    raw.append(each.raw)
                reasons.append(
                    (names.get(each.file, each.file.hex()), str(each.line), each.outcome, each.code, each.why, number)
                )
        gone = [student for students in report.absent.values() for student in students or ()]
        written = [
            _private(
                f"{start}-rejected-reasons.csv", ("file", "line", "outcome", "code", "reason", "line_in_rejected"),
                reasons,
            ),
            _private(f"{start}-rejected.csv", tuple(UPLOAD_COLUMNS), forms),
            _private(f"{start}-not-in-dump.csv", ("StateAbbreviation", "SSID"), gone),
        ]  # fmt: skip
        unreadable = Path(f"{start}-unreadable.txt")
        with os.fdopen(_open(unreadable), "wb") as file:
            file.writelines(line + b"\n" for line in raw)
    return [*written, unreadable]


def _private(name: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Path:
    path = Path(name)
    with os.fdopen(_open(path), "w", encoding="utf-8", newline="") as file:
        _rows(file, columns, rows)
    return path


def _open(path: Path) -> int:
    # What is there already may be readable by others.
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def _rows(file: TextIO, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)


@contextmanager
def _folder(out: Path) -> Iterator[None]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ReportNotWritten(path=out, problem=error.strerror or str(error)) from error
