"""`headrace art` as an operator runs it: processes, settings in the environment, files in a folder or on a server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.families import catalogue
from headrace.kafka.admin import create_missing
from tests.support.art_loading import Dump, ServedArt
from tests.support.jobs import Command, Site
from tests.support.running import new_cluster
from tests.support.sftp import FaultySftp

DATE = "2026-11-05"


@dataclass
class Office(Site):
    """A machine from which a state is loaded."""

    settings: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, bootstrap: str, prefix: str, folder: Path, art: ServedArt) -> Office:
        cluster = new_cluster(bootstrap, prefix)
        create_missing(cluster, catalogue())
        art_settings = art.settings()
        settings = {
            "HEADRACE_ART__URL": art_settings.url,
            "HEADRACE_ART__TOKEN_URL": art_settings.token_url,
            "HEADRACE_ART__USERNAME": art_settings.username,
            "HEADRACE_ART__PASSWORD": art_settings.password.get_secret_value(),
            "HEADRACE_ART__CLIENT_ID": art_settings.client_id,
            "HEADRACE_ART__CLIENT_SECRET": art_settings.client_secret.get_secret_value(),
            "HEADRACE_STUDENTS__LINGER": "100ms",
            "HEADRACE_CSV_FANOUT__ALLOW_SHRINK": "true",
        }
        return cls(bootstrap, prefix, folder, settings=settings)

    @property
    def environment(self) -> dict[str, str]:
        known = super().environment
        return {**known, **self.settings, **self.extra, "HEADRACE_STATE": str(self.folder / "state")}

    def put(self, dump: Dump, name: str = "night") -> list[str]:
        """Write the dump here, and the options that name it."""
        self.folder.mkdir(exist_ok=True)
        students, schools = self.folder / f"{name}_students.csv", self.folder / f"{name}_schools.csv"
        students.write_bytes(dump.students)
        schools.write_bytes(dump.schools)
        return ["-l", "-f", str(students), "-c", str(schools)]

    def art(self, *arguments: str | Path, within: float = 90.0, code: int | None = 0) -> Command:
        """Run `headrace art …` to its end, and see that it ends as expected."""
        command = self.run("art", *arguments, within=within)
        assert code is None or command.code == code, command.text
        return command

    def load(self, *arguments: str | Path, within: float = 90.0, code: int | None = 0) -> Command:
        """Run `headrace art load` for the night of the test dumps."""
        return self.art("load", "--date", DATE, *arguments, within=within, code=code)

    def report(self, job: str, *arguments: str | Path, code: int | None = None) -> dict[str, Any]:
        """The report of a load."""
        (found,) = self.art("report", job, "--json", *arguments, code=code).whole
        return dict(found)


def job_of(command: Command) -> str:
    """The job that a load says that it is."""
    return next(line for line in command.lines if line.startswith("job ")).removeprefix("job ")


def file_of(report: Mapping[str, Any], dataset: str = "art_students") -> dict[str, Any]:
    """What a report says of a file."""
    return next(dict(each) for each in report["files"] if each["dataset"] == dataset)


def serve(server: FaultySftp, dump: Dump, office: Office, *, zipped: Any = None) -> None:
    """Put a dump onto a server under its usual names, and tell the office how to get there."""
    for kind, content in (("students", dump.students), ("schools", dump.schools)):
        place = server.root / kind.title() / f"CA_{kind}_{DATE.replace('-', '')}.zip"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(zipped(content) if zipped is not None else content)
        os.utime(place, (1_700_000_000, 1_700_000_000))
    secret = office.folder / "password"
    secret.parent.mkdir(exist_ok=True)
    secret.write_text(server.password)
    secret.chmod(0o600)
    office.settings |= {
        "HEADRACE_SFTP_SOURCE__HOST": "127.0.0.1",
        "HEADRACE_SFTP_SOURCE__PORT": str(server.port),
        "HEADRACE_SFTP_SOURCE__USER": server.user,
        "HEADRACE_SFTP_SOURCE__PASSWORD_FILE": str(secret),
        "HEADRACE_SFTP_SOURCE__FINGERPRINT": server.fingerprint,
        "HEADRACE_SFTP_SOURCE__SETTLE": "100ms",
        "HEADRACE_SFTP_SOURCE__TRIES": "2",
    }
