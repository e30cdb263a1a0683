"""What is to be loaded, from the options of the command: which files, which rows, under which job. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from headrace.datasets.selection import Selection
from headrace.sending_once import FileRequest
from headrace_art.loading.settings import ArtLoadSettings

KIND = "art-load"
KIND_OF_RESENDING = "art-resend"
SCHOOLS, STUDENTS = "art_schools", "art_students"
GROUPS: Mapping[str, str] = {SCHOOLS: "entities", STUDENTS: "students"}
"""Which service must account for each record of a dataset."""

Entities = Literal["job", "last"]


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """The options of the command, as given; None was not given. Source: reference art 1.3.

    Parameters:
        students, schools: local files, which are read (`local`), or where a copy of what is fetched is kept.
        remote: the student file on the server.
        offset: byte from which the student file is fetched again.
        start_line: first line of the student file whose row is sent; the header is line 1.
        most: students, at most.
        entities: wait for the schools of this load, or take those that were confirmed last.
        resend: send students whether they have changed or not.
    """

    day: date
    students: Path | None = None
    schools: Path | None = None
    remote: str | None = None
    offset: int | None = None
    local: bool = False
    encoding: str | None = None
    delimiter: str | None = None
    start_line: int = 1
    most: int | None = None
    entities: Entities = "job"
    resend: bool = False

    @property
    def source(self) -> str:
        """The service that sends the files."""
        return "directory_source" if self.local else "sftp_source"

    def files(self, settings: ArtLoadSettings) -> list[FileRequest]:
        """The files to send, the schools first."""
        dialect = Selection(self.encoding, self.delimiter)
        rows = Selection(self.encoding, self.delimiter, self.start_line, self.most, self.resend)
        students, schools = self.remote or settings.students, settings.schools
        found = []
        if self.entities == "job":
            found.append(self._file(schools, self.schools, SCHOOLS, dialect))
        found.append(self._file(students, self.students, STUDENTS, rows, self.offset))
        return found

    def job(self, settings: ArtLoadSettings) -> str:
        """The id of the load: the same night and options have the same one, so that a repetition does the work once."""
        plain = LoadOptions(self.day)
        wish = repr((self.files(settings), self.local))
        mark = "" if wish == repr((plain.files(settings), False)) else f"-{_mark(wish)}"
        return f"{KIND}-{self.day:%Y%m%d}{mark}"

    def _file(
        self, remote: str, local: Path | None, dataset: str, selection: Selection, offset: int | None = None
    ) -> FileRequest:
        dated = self.day.strftime(remote) if "%" in remote else remote
        if self.local:
            return FileRequest(str((local or Path(Path(dated).name)).absolute()), dataset, selection.meta)
        return FileRequest(dated, dataset, selection.meta, None if local is None else local.absolute(), offset)


def _mark(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=3).hexdigest()
