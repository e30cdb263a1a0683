"""Writes what a comparison finds: for people as CSV, and the dump's own lines so that they can be loaded again."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from headrace_art.checker.comparing import Finding
from headrace_art.checker.files import Dump

_COLUMNS = ("kind", "entityId", "districtIdentifier", "institutionIdentifier", "event")


class Report:
    """Files of a folder, each made when the first thing goes into it. Only the owner can read them. A context manager.

    Parameters:
        stamp: the end of their names.
        schools, students: whose header and encoding the missing lines have.
    """

    def __init__(self, folder: Path, stamp: str, schools: Dump, students: Dump | None) -> None:
        self._folder, self._stamp = folder, stamp
        self._schools, self._students = schools, students
        self._open: dict[str, TextIO] = {}
        self._table: Any = None
        self.paths: list[Path] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._open.values():
            file.close()

    def finding(self, finding: Finding) -> None:
        """Write a row for people."""
        if self._table is None:
            self._table = csv.writer(self._file("findings", "utf-8"), lineterminator="\n")
            self._table.writerow(_COLUMNS)
        self._table.writerow((finding.kind, finding.entity_id, finding.district, finding.institution, finding.event))

    def missing(self, kind: str, line: str) -> None:
        """Write a line of the dump as it stands there."""
        name = f"missing_{kind}"
        if name not in self._open:
            dump = self._students if kind == "students" and self._students is not None else self._schools
            self._file(name, dump.encoding).write(f"{dump.header}\n")
        self._open[name].write(f"{line}\n")

    def _file(self, name: str, encoding: str) -> TextIO:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"check_{name}_{self._stamp}.csv"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._open[name] = os.fdopen(descriptor, "w", encoding=encoding, newline="")
        self.paths.append(path)
        return self._open[name]
