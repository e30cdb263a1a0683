"""The page that loads students: what `headrace art load` and `headrace art report` do, in a browser.

Takes the place of the old loader's window, which could neither test a connection nor do anything but upload at once.
Source: reference art 1.12.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path

from headrace.config import Sources
from headrace.pages import SET, Action, Option, Page
from headrace_art.loading.request import KIND, KIND_OF_RESENDING, LoadOptions
from headrace_art.loading.settings import ArtLoadSettings

NIGHT, LOCAL = "--date", "--localonly"
STUDENTS, SCHOOLS, REMOTE = "--studentfile", "--schoolfile", "--remotepath"
ENTITIES, START_LINE, NUMBER = "--entities", "--start-line", "--number"
ENCODING, DELIMITER = "--encoding", "--delimiter"

PERSONAL = (
    "The files hold personal data of students. They are kept on this machine, readable by the user of the console only,"
    " until the console ends or twenty newer runs have come; what you download is yours to protect and to delete."
)


def job_of(sources: Sources, values: Mapping[str, str]) -> str:
    """The job that `headrace art load` would take with these options."""
    number = values.get(NUMBER)
    options = LoadOptions(
        day=date.fromisoformat(values[NIGHT]) if values.get(NIGHT) else datetime.now().astimezone().date(),
        students=_path(values.get(STUDENTS)),
        schools=_path(values.get(SCHOOLS)),
        remote=values.get(REMOTE) or None,
        local=values.get(LOCAL) == SET,
        encoding=values.get(ENCODING) or None,
        delimiter=values.get(DELIMITER) or None,
        start_line=int(values.get(START_LINE) or 1),
        most=int(number) if number else None,
        entities="last" if values.get(ENTITIES) == "last" else "job",
    )
    return options.job(sources.section("art_load", ArtLoadSettings).values)


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


PAGE = Page(
    title="Load students",
    purpose="The nightly dump of districts, schools and students goes from its server into ART: what is new or has"
    " changed is sent, and every line is accounted for.",
    sections=("sftp_source", "art_load", "art", "entities", "students", "csv_fanout"),
    options=(
        Option(NIGHT, "Night", "date", help="The files of that night are loaded."),
        Option(
            ENTITIES,
            "Schools",
            "choice",
            (("job", "load them first"), ("last", "take those that ART confirmed last")),
        ),
        Option(LOCAL, "The files are on this machine", "flag", help="Nothing is fetched from the server."),
        Option(
            STUDENTS,
            "Student file",
            help="On this machine: the file to load, or else where a copy of what is fetched is kept.",
        ),
        Option(SCHOOLS, "Schools file", help="Likewise."),
        Option(REMOTE, "Student file on the server", help="Empty: as set in art_load.", rare=True),
        Option(START_LINE, "First line", "number", help="Of the student file; the header is line 1.", rare=True),
        Option(NUMBER, "Students at most", "number", help="From that line on. Empty: all.", rare=True),
        Option(ENCODING, "Encoding of both files", help="Empty: the dataset's, latin-1.", rare=True),
        Option(DELIMITER, "Delimiter of both files", help="Empty: the dataset's, ^.", rare=True),
    ),
    actions=(
        Action(
            "dry-run",
            "Dry run",
            ("art", "load", "--dry-run"),
            "Fetches, logs in, and tells what would be done with every line. Writes nothing to ART or to the log.",
        ),
        Action(
            "load",
            "Load",
            ("art", "load", "--job={job}", "--json", "--on-interrupt=stop", "--report={files}"),
            "Sends what is new or has changed to ART. The same once more does nothing twice.",
        ),
    ),
    job=job_of,
    kinds=frozenset({KIND, KIND_OF_RESENDING}),
    job_actions=(
        Action("report", "Report", ("art", "report", "{job}", "--out={files}"), "What became of every line: counts."),
        Action(
            "rejected",
            "Report with rows",
            ("art", "report", "{job}", "--out={files}", "--rejected"),
            "Also each row that is not at ART, with its reason. Personal data.",
            PERSONAL,
        ),
    ),
)
