"""Writes a plan as the files of a night, zip or plain CSV, and tells what is in them."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from headrace_art.sandbox.dump import schools, students
from headrace_art.sandbox.dump.plan import Plan

ENCODING = "latin-1"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_BUFFER = 1 << 18


@dataclass
class Summary:
    """What a night's files hold. Lines are counted in each member from 1, its header."""

    students: str = ""
    schools: str = ""
    rows: int = 0
    distinct: int = 0
    changed: int = 0
    unknown_schools: int = 0
    duplicates: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    broken_lines: list[tuple[int, int, str]] = field(default_factory=list)
    school_rows: int = 0

    def as_json(self, *, lines: bool) -> dict[str, Any]:
        """For printing; with `lines` also where the broken rows are: member (from 1), line, property."""
        values: dict[str, Any] = {**vars(self), "duplicates": dict(self.duplicates), "broken": dict(self.broken)}
        if not lines:
            del values["broken_lines"]
        return values


class Night:
    """Writes the two files of a night below `folder`, named as on the server: `Students/CA_students_20240312.zip`.

    Parameters:
        date: the part of the names that tells the day.
        members: how many members the students' zip has, each with its own header.
        plain: CSV instead of zip; then there is one member.
        level: how hard zlib tries, 0 to 9.
    """

    def __init__(
        self, folder: Path, date: str, plan: Plan, *, members: int = 1, plain: bool = False, level: int = 1
    ) -> None:
        self._folder, self._date, self._plan = folder, date, plan
        self._members, self._plain, self._level = members, plain, level

    def write(self) -> Summary:
        """Write both, and tell what is in them."""
        summary = Summary()
        made = schools.Schools(self._plan)
        summary.schools = self._file("Schools", "schools", [self._school_lines(made, summary)], schools.HEADER)
        rows = students.Students(self._plan, made).rows()
        each = -(-self._expected() // self._members) if self._members > 1 else None
        parts = [self._student_lines(rows, summary, member, each) for member in range(1, self._members + 1)]
        summary.students = self._file("Students", "students", parts, students.HEADER)
        return summary

    def _expected(self) -> int:
        """About how many rows there are, so that members are of about equal size; the last one takes the rest."""
        return self._plan.rows - self._plan.removed + self._plan.added

    def _file(self, folder: str, kind: str, parts: list[Iterator[str]], header: str) -> str:
        stem = f"{self._plan.state}_{kind}_{self._date}"
        path = self._folder / folder / f"{stem}.{'csv' if self._plain else 'zip'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._plain:
            with path.open("wb") as out:
                for part in parts:
                    _write(out, header, part)
            return str(path)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=self._level) as archive:
            for number, part in enumerate(parts, 1):
                name = f"{stem}.csv" if len(parts) == 1 else f"{stem}_{number}.csv"
                with _member(archive, name) as out:
                    _write(out, header, part)
        return str(path)

    @staticmethod
    def _school_lines(made: schools.Schools, summary: Summary) -> Iterator[str]:
        for line in made.lines():
            summary.school_rows += 1
            yield line

    def _student_lines(
        self, rows: Iterator[students.Row], summary: Summary, member: int, limit: int | None
    ) -> Iterator[str]:
        line = 1
        for row in rows:
            line += 1
            summary.rows += 1
            summary.changed += row.changed
            summary.unknown_schools += row.unknown_school
            if row.duplicate is None:
                summary.distinct += 1
            else:
                summary.duplicates[row.duplicate] += 1
            if row.broken is not None:
                summary.broken[row.broken] += 1
                summary.broken_lines.append((member, line, row.broken))
            yield row.line
            if limit is not None and member < self._members and line > limit:
                return


@contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[BinaryIO]:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(entry, "w", force_zip64=True) as raw, io.BufferedWriter(raw, _BUFFER) as out:
        yield out


def _write(out: BinaryIO, header: str, lines: Iterable[str]) -> None:
    out.write(f"{header}\n".encode(ENCODING))
    out.writelines(f"{line}\n".encode(ENCODING) for line in lines)
