"""`headrace art load --dry-run`: everything but what writes, and a count of what would be done with each line."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.checks import Check
from headrace.cli.runtime import Session
from headrace.codec.records import Record
from headrace.datasets.catalogue import Dataset, Datasets
from headrace.datasets.rows import BadRow
from headrace.datasets.selection import Selection
from headrace.datasets.survey import checked
from headrace.errors import ConfigError, PermanentError
from headrace.families import sections, stage_named
from headrace.jobs.assessment import Exit
from headrace.kafka.clients import Cluster
from headrace.kafka.reading import read_now
from headrace.keys import encode_key
from headrace.sending_once import Around, FileRequest, Watcher
from headrace_art.client import ArtSettings
from headrace_art.confirmed import Confirmed
from headrace_art.entity_plan import Action, EntityTwice, Wanted, decide, plan
from headrace_art.loading.request import KIND, SCHOOLS, LoadOptions
from headrace_art.loading.settings import ArtLoadSettings
from headrace_art.mapping import StudentMapper
from headrace_art.schools import SchoolRow, lookup
from headrace_art.students.changes import Known, Verdict, unchanged, verdict
from headrace_art.students.deciding import UNKNOWN_SCHOOL
from headrace_art.students.reading import Reader
from headrace_art.students.settings import StudentsSettings
from headrace_art.topics import STATE_STUDENTS

TABLE_SECONDS = 60.0
PATIENCE = 0.05
NO_FILE = bytes(16)


class FileNotHere(ConfigError):
    """{path} could not be had: {reason}."""

    code = "file-not-here"


class SchoolsNotRead(ConfigError):
    """The schools that ART has confirmed could not be read within {seconds} s. Is Kafka busy? Try again."""

    code = "schools-not-read"


@dataclass
class WouldBe:
    """What would be done: counts by dataset, outcome and code. Districts and schools are counted, not lines."""

    counts: Counter[tuple[str, str, str | None]] = field(default_factory=Counter)
    checks: list[Check] = field(default_factory=list)

    def add(self, dataset: str, outcome: str, code: str | None = None) -> None:
        """One more."""
        self.counts[dataset, outcome, code] += 1

    @property
    def exit_code(self) -> Exit:
        """As of the load, as far as can be told before ART has answered."""
        if not all(check.well for check in self.checks):
            return Exit.FAILED
        aside = any(outcome in ("dead-lettered", "held") for _, outcome, _ in self.counts)
        return Exit.PUT_ASIDE if aside else Exit.DELIVERED

    def as_json(self) -> list[dict[str, Any]]:
        """For scripts."""
        return [
            {"dataset": dataset, "would_be": outcome, "code": code, "number": number}
            for (dataset, outcome, code), number in sorted(self.counts.items(), key=str)
        ]


def dry_run(
    session: Session,
    cluster: Cluster,
    options: LoadOptions,
    settings: ArtLoadSettings,
    watcher: Watcher,
    stop: threading.Event,
) -> WouldBe:
    """Fetch the files, log in to ART, and decide on every line. Nothing is written to ART or to the log.

    Raises FileNotHere, RefusedFile, SchoolsNotRead, KafkaUnreachable.
    """
    found = WouldBe()
    art: ArtSettings = session.sources.section("art", ArtSettings).values
    students: StudentsSettings = session.sources.section("students", StudentsSettings).values
    found.checks += sections()["art"].run_check(art)
    datasets = Datasets(session.settings.datasets.folder)
    with _here(session, cluster, options, settings, watcher, stop) as files:
        confirmed = _confirmed(cluster)
        schools = dict(confirmed.schools)
        for request, path in files:
            selection = Selection.of(request.meta)
            dataset = selection.dataset(datasets[request.dataset or ""])
            if request.dataset == SCHOOLS:
                rows = list(_schools(dataset, path, found))
                schools |= lookup(rows)
                _entities(rows, art, confirmed, found)
            else:
                _students(cluster, dataset, path, selection, art, students, schools, found)
    return found


@contextmanager
def _here(
    session: Session,
    cluster: Cluster,
    options: LoadOptions,
    settings: ArtLoadSettings,
    watcher: Watcher,
    stop: threading.Event,
) -> Iterator[Sequence[tuple[FileRequest, Path]]]:
    """The files on this machine; what was fetched for this alone is gone afterwards."""
    session.settings.state.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="dry-run-", dir=session.settings.state))
    try:
        files = []
        send_once = stage_named(options.source).load_send_once()
        around = Around(cluster, session.settings, session.sources, KIND, (), options.day, stop, watcher, publish=False)
        for request in options.files(settings):
            keep = request.keep or folder / Path(request.path).name
            asked = FileRequest(request.path, request.dataset, request.meta, keep, request.restart_at)
            (result,) = send_once([asked], around)
            if result.result != "fetched":
                raise FileNotHere(path=request.path, reason=result.reason or "it was stopped")
            files.append((request, Path(request.path) if options.local else keep))
        yield files
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _confirmed(cluster: Cluster) -> Confirmed:
    confirmed = Confirmed(cluster)
    confirmed.start()
    try:
        deadline = time.monotonic() + TABLE_SECONDS
        while not confirmed.complete:
            if time.monotonic() > deadline:
                raise SchoolsNotRead(seconds=TABLE_SECONDS)
            time.sleep(PATIENCE)
    finally:
        confirmed.close()
    return confirmed


def _schools(dataset: Dataset, path: Path, found: WouldBe) -> Iterator[SchoolRow]:
    names = [column.name for column in dataset.declaration.columns]
    with path.open("rb") as file:
        for row in checked(dataset, file):
            if isinstance(row, BadRow):
                found.add(SCHOOLS, "dead-lettered", row.error.code)
            else:
                yield SchoolRow.of(dict(zip(names, row.values, strict=True)))


def _entities(rows: Sequence[SchoolRow], art: ArtSettings, confirmed: Confirmed, found: WouldBe) -> None:
    wanted = plan(rows, art.state, art.district_rule)
    for problem in wanted.problems:
        found.add(SCHOOLS, "reported" if isinstance(problem, EntityTwice) else "dead-lettered", problem.code)
    for entity in (*wanted.districts, *wanted.institutions):
        found.add(SCHOOLS, *_entity(entity, confirmed))


def _entity(wanted: Wanted, confirmed: Confirmed) -> tuple[str, str | None]:
    known = confirmed.entity(wanted.kind, wanted.entity_id)
    decision = decide(wanted, known.name if known else None, known.parent_id if known else None)
    if decision.parent_changed:
        return "held", "art-parent-changed"
    return {Action.NOTHING: "unchanged", Action.CREATE: "created", Action.RENAME: "renamed"}[decision.action], None


def _students(
    cluster: Cluster,
    dataset: Dataset,
    path: Path,
    selection: Selection,
    art: ArtSettings,
    settings: StudentsSettings,
    schools: Mapping[str, str],
    found: WouldBe,
) -> None:
    known = _known(cluster)
    mapper = StudentMapper(art.mapping, schools)
    reader = Reader(dataset, mapper, schools, settings.unknown_schools)
    encoder = dataset.encoder
    with path.open("rb") as file:
        for row in selection.rows(checked(dataset, file)):
            if isinstance(row, BadRow):
                found.add(dataset.name, "dead-lettered", row.error.code)
                continue
            body = encoder.body(row.values, row.line, ascii_only=row.plain)
            record = Record(job=None, file=NO_FILE, line=row.line, body=body, schema=dataset.fingerprint)
            raw = known.get(encode_key((encoder.key(row.values, row.line),)))
            found.add(dataset.name, *_student(record, raw, reader, mapper, settings))


def _student(
    record: Record, raw: bytes | None, reader: Reader, mapper: StudentMapper, settings: StudentsSettings
) -> tuple[str, str | None]:
    """What the stage would decide. A file of a real load has an id that no earlier file has, as the one of zeros."""
    school = reader.school(record)
    digest = reader.digest(record, school)
    if unchanged(raw, digest, b""):
        return "unchanged", None
    known = Known.of(raw)
    if verdict(known, digest, b"", record.line) is Verdict.WAIT:
        return "unchanged", "superseded"
    try:
        mapped = mapper.map(reader.dataset.row(record), unlinked=settings.unknown_schools == "unlinked", school=school)
    except PermanentError as error:
        return "dead-lettered", error.code
    if mapped.broken:
        return "dead-lettered", mapped.broken[0].code
    if not mapped.known_school and settings.unknown_schools != "unlinked":
        return "held" if settings.unknown_schools == "hold" else "dead-lettered", UNKNOWN_SCHOOL
    return "sent", "new" if known is None else "changed"


def _known(cluster: Cluster) -> dict[bytes, bytes]:
    """What is remembered of every student: some 200 bytes each, in memory."""
    known: dict[bytes, bytes] = {}
    for batch in read_now(cluster, STATE_STUDENTS):
        for message in batch:
            key, value = message.key() or b"", message.value()
            if value:
                known[key] = bytes(value)
            else:
                known.pop(key, None)
    return known
