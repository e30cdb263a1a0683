"""A night of a state in a test: files onto the log, the stages in threads, ART in a thread, and an oracle.

The oracle reads the dump with the plainest means and compares it with ART's tables and the receipts; it uses nothing
of Headrace.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import threading
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from pyroaring import BitMap64

from headrace.datasets.catalogue import Datasets
from headrace.events import UploadAck
from headrace.kafka.admin import create_missing
from headrace.sandbox.clock import Clock
from headrace_art import topics
from headrace_art.client import ArtSettings
from headrace_art.entities.service import Entities
from headrace_art.entities.settings import EntitiesSettings
from headrace_art.sandbox.dump.plan import Plan
from headrace_art.sandbox.dump.writing import Night
from headrace_art.sandbox.server import ArtSandbox
from headrace_art.students.service import Students
from headrace_art.students.settings import StudentsSettings
from headrace_files.csv_fanout.service import CsvFanout
from headrace_files.csv_fanout.settings import CsvFanoutSettings
from tests.support.art import art_settings, sandbox
from tests.support.art_feed import FLAGS, GRADES
from tests.support.feeding import FedFile, Feeder
from tests.support.running import new_cluster, receipts_on_log, running
from tests.support.waiting import wait_until


class ServedArt:
    """A stand-in in a thread of its own."""

    def __init__(self, served: ArtSandbox, loop: asyncio.AbstractEventLoop) -> None:
        self.served, self._loop = served, loop

    def run(self, work: Any) -> Any:
        """Run a coroutine in its thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def table(self, name: str) -> list[dict[str, Any]]:
        """One of its tables."""

        async def read() -> bytes:
            return b"".join(self.served.tables()[name]())

        return [orjson.loads(line) for line in self.run(read()).splitlines()]

    def counted(self, *labels: str) -> float:
        """One of its counters."""
        return self.served.world.counters.get(*labels)

    def counters(self) -> Mapping[str, Any]:
        """All of them."""
        return self.served.counted()

    def requests(self, endpoint: str) -> int:
        """How many requests came for an endpoint."""
        return sum(int(value) for key, value in flat(self.counters()) if key[:2] == ("requests", endpoint))

    def settings(self, **changes: Any) -> ArtSettings:
        """Of a client."""
        return art_settings(self.served, **changes)


def flat(tree: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The leaves of nested mappings with their paths."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from flat(value, (*at, str(name)))
    else:
        yield at, tree


@contextlib.contextmanager
def served_art(clock: Clock | None = None, **settings: Any) -> Iterator[ServedArt]:
    """A stand-in without latency and limits, except as `settings` say."""
    loop, ready, found = asyncio.new_event_loop(), threading.Event(), []

    async def serve() -> None:
        async with sandbox(clock, **settings) as served:
            found.append((served, asyncio.Event()))
            ready.set()
            await found[0][1].wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield ServedArt(found[0][0], loop)
    finally:
        loop.call_soon_threadsafe(found[0][1].set)
        thread.join(30)


@dataclass
class Dump:
    """The two files of a night, as bytes of CSV."""

    students: bytes
    schools: bytes
    summary: Any

    @classmethod
    def make(cls, folder: Path, date: str = "20261105", **plan: Any) -> Dump:
        values = {"duplicates": 0, "unknown_schools": 0, "broken": 0, "districts": 5, "schools": 20, **plan}
        summary = Night(folder / date, date, Plan(**values), plain=True).write()
        return cls(Path(summary.students).read_bytes(), Path(summary.schools).read_bytes(), summary)


ZEROS = "0" * 7
TEXTS = {
    "FirstName": "firstName", "MiddleName": "middleName", "LastOrSurname": "lastName",
    "SmarterStudentID": "externalSsid",
    "EnglishLanguageProficiencyLevel": "elpLevel", "StateAbbreviation": "stateAbbreviation",
}  # fmt: skip
DATES = {
    "DateofBirth": "birthDate", "FirstEntryDateIntoUSSchool": "firstEntryDateIntoUsSchool",
    "LimitedEnglishProficiencyEntryDate": "lepEntryDate", "LEPExitDate": "lepExitDate",
}  # fmt: skip


def rows_of(content: bytes) -> list[tuple[int, dict[str, str]]]:
    """Lines with their cells."""
    header, *lines = content.decode("latin-1").split("\n")
    names = header.split("^")
    return [(number, dict(zip(names, line.split("^"), strict=True))) for number, line in enumerate(lines, 2) if line]


def schools_of(content: bytes) -> dict[str, str]:
    """ART's ids by the two codes."""
    return {f"{row['County-District Code']}/{row['School Code']}": row["Auth CDS Code"] for _, row in rows_of(content)}


def as_stored(row: Mapping[str, str], school: str) -> dict[str, Any]:
    """A row as ART stores it. Source: reference art 2.3 to 2.6."""
    found: dict[str, Any] = {key: row[name].strip() for name, key in TEXTS.items()}
    found |= {key: row[name].strip().casefold() == "yes" for name, key in FLAGS.items()}
    found |= {key: row[name].strip() or None for name, key in DATES.items()}
    found |= {
        "ssid": row["SSID"], "sex": row["Sex"].strip().title(), "institutionIdentifier": school,
        "districtIdentifier": (row["ResponsibleDistrictIdentifier"].strip() + ZEROS).rjust(14, "0"),
        "gradeLevelWhenAssessed": GRADES.get(row["GradeLevelWhenAssessed"].strip(), "UG"),
        "languageCode": row["LanguageCode"].strip().lower(), "title3ProgramType": None,
        "primaryDisabilityType": row["PrimaryDisabilityType"].strip().upper(),
    }  # fmt: skip
    return found


@dataclass
class Lines:
    """What receipts say of one file."""

    covers: defaultdict[tuple[str, str | None], set[int]] = field(default_factory=lambda: defaultdict(set))

    def outcome(self, name: str) -> set[int]:
        return {line for (outcome, _), lines in self.covers.items() if outcome == name for line in lines}

    @property
    def counts(self) -> dict[str, int]:
        return {f"{outcome}:{code}" if code else outcome: len(lines) for (outcome, code), lines in self.covers.items()}


class Loading:
    """The stages of one prefix, and what they have made of the files that a test put on the log."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path, art: ServedArt) -> None:
        self.cluster = new_cluster(bootstrap, prefix)
        self.datasets = Datasets()
        create_missing(
            self.cluster, [*topics.TOPICS, *(self.datasets[name].topic for name in ("art_schools", "art_students"))]
        )
        self.folder, self.art = folder, art
        self.feeder = Feeder(self.cluster)

    def feed(self, dump: Dump, job: str | None = "night", *, schools: bool = True) -> tuple[FedFile | None, FedFile]:
        """Put both files onto the log."""
        first = None
        if schools:
            first = self._send(f"schools-{job}", dump.schools, "art_schools", job)
        return first, self._send(f"students-{job}", dump.students, "art_students", job)

    def _send(self, name: str, content: bytes, dataset: str, job: str | None) -> FedFile:
        topic = self.datasets[dataset].chunks
        file = FedFile(name.encode(), content, dataset=dataset, job=job, chunk=262_144, topic=topic)
        headers = [("hr-job", job.encode())] if job else []
        self.feeder.send(file, *file.frames(), headers=headers)
        self.feeder.flush()
        return file

    def fan_out(self) -> CsvFanout:
        return CsvFanout(CsvFanoutSettings(spool=self.folder / "spool", allow_shrink=True), self.cluster, self.datasets)

    def entities(self, art: Mapping[str, Any] | None = None, **settings: Any) -> Entities:
        return Entities(
            EntitiesSettings(**settings),
            self.art.settings(**dict(art or {})),
            self.cluster,
            self.datasets["art_schools"],
        )

    def students(self, art: Mapping[str, Any] | None = None, clock: Clock | None = None, **settings: Any) -> Students:
        return Students(
            StudentsSettings(**{"linger": 0.2, **settings}), self.art.settings(**dict(art or {})), self.cluster,
            self.datasets["art_students"], self.folder / "state", clock=clock,
        )  # fmt: skip

    @contextlib.contextmanager
    def running(self, **students: Any) -> Iterator[None]:
        """All three stages."""
        with (
            running(self.fan_out(), self.cluster),
            running(self.entities(), self.cluster),
            running(self.students(**students), self.cluster),
        ):
            yield

    def lines(self, file: FedFile, stage: str = "students") -> Lines:
        """What the receipts of a stage say of a file's lines."""
        found = Lines()
        for ack in self.receipts(file, stage):
            for covers in ack.covers:
                lines = set(BitMap64.deserialize(covers.lines)) if covers.lines is not None else {-1}
                found.covers[covers.outcome, covers.code] |= lines
        return found

    def receipts(self, file: FedFile, stage: str = "students") -> list[UploadAck]:
        """The receipts of the file's partitions; of each the last one."""
        last = {
            ack.item: ack for ack in receipts_on_log(self.cluster)
            if ack.item.startswith(f"{file.item}/") and ack.group.endswith(f"{stage}.test")
        }  # fmt: skip
        return list(last.values())

    def wait(self, *files: FedFile, stage: str = "students", within: float = 60) -> None:
        """Wait until all partitions of the files have their receipt."""
        wait_until(lambda: all(len(self.receipts(file, stage)) == 3 for file in files), within=within)


def check(
    loading: Loading, file: FedFile, dump: Dump, *, held: int = 0, before: Mapping[str, Any] | None = None
) -> list[str]:
    """What is wrong after a night: ART's table must be that of the dump without what was put aside, every line said.

    Parameters:
        held: how many lines are held.
        before: students by SSID that ART had and the dump does not name, which must be as they were.
    """
    wrong = []
    lines = loading.lines(file)
    rows = rows_of(dump.students)
    sets = list(lines.covers.values())
    if set().union(*sets) != {number for number, _ in rows} or sum(map(len, sets)) != len(rows):
        wrong.append(f"{len(rows)} lines are not accounted for once each: {lines.counts}")
    broken = {line for _, line, _ in dump.summary.broken_lines}
    if lines.outcome("dead_lettered") != broken:
        wrong.append(f"dead letters of {sorted(lines.outcome('dead_lettered') ^ broken)[:5]}")
    if len(lines.outcome("held")) != held:
        wrong.append(f"{len(lines.outcome('held'))} lines held, not {held}")
    schools = schools_of(dump.schools)
    expected = dict(before or {})
    for number, row in rows:
        school = schools.get(f"{row['ResponsibleDistrictIdentifier']}/{row['ResponsibleSchoolIdentifier']}")
        if number not in broken and school is not None:
            expected[row["SSID"]] = as_stored(row, school)
    stored = {student["ssid"]: student for student in loading.art.table("students")}
    if stored.keys() != expected.keys():
        wrong.append(
            f"{len(expected.keys() - stored.keys())} students lost, {len(stored.keys() - expected.keys())} invented"
        )
    different = [ssid for ssid in stored.keys() & expected.keys() if stored[ssid] != expected[ssid]]
    if different:
        one = different[0]
        fields = {key for key in expected[one] if stored[one].get(key) != expected[one][key]}
        wrong.append(f"{len(different)} students differ, one in {sorted(fields)}")
    return wrong


def saved_more_than_once(art: ServedArt) -> Counter[Any]:
    """Students that were saved again after their first time."""
    return Counter(art.served.world.students.saved_again)


def zipped(content: bytes) -> bytes:
    """As it comes from the server."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("dump.csv", content)
    return out.getvalue()


def as_csv(rows: list[dict[str, str]]) -> bytes:
    """Rows as a file of the feed."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter="^", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
    writer.writerow(rows[0].keys())
    writer.writerows(row.values() for row in rows)
    return out.getvalue().encode("latin-1")
