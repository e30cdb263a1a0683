"""Two nights of a made-up state: its dump goes from an sFTP server to the stand-in for ART, then what has changed.

At the end ART's own tables and counters are asked, which no report of ours can flatter.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx2
import orjson
from rich import box
from rich.table import Table

from headrace.config import KafkaSettings
from headrace.demonstration import Scene
from headrace.errors import FatalError
from headrace.families import catalogue
from headrace.jobs.assessment import Exit
from headrace.kafka.admin import create_missing
from headrace.kafka.clients import Cluster

STUDENTS, DISTRICTS, SCHOOLS = 100_000, 200, 2_000
CHANGED = 0.01
SEED = 1
PREFIX = "students."
ANSWER_SECONDS = 30.0

_SETTINGS = """\
# Written by `headrace demo`; try: headrace --config {file} art report --help
state = "{state}"

[kafka]
bootstrap = "{bootstrap}"
prefix = "{prefix}"

[log]
level = "warning"

[sftp_source]
host = "{sftp[host]}"
port = {sftp[port]}
user = "{sftp[user]}"
key_file = "{sftp[key_file]}"
fingerprint = "{sftp[fingerprint]}"
settle = "1s"

[art]
url = "{art[rest_url]}"
token_url = "{art[token_url]}"
username = "loader@example.org"
password = "sandbox"
client_id = "headrace"
client_secret = "sandbox"
"""


class NightWrong(FatalError):
    """The load of {night} ended with exit code {code}; look at {log}, and at: headrace --config {settings} art report {job}."""  # noqa: E501

    code = "night-wrong"


def demo(scene: Scene) -> int:
    """Load two nights; 0 if ART holds exactly what it should.

    Raises NightWrong, StandInEnded.
    """
    console = scene.console
    today = date.today()  # noqa: DTZ011 - the name of a file
    nights = (today - timedelta(days=1), today)
    made = [
        _make(scene, nights[0]),
        _make(scene, nights[1], "--changed", str(CHANGED)),
    ]
    console.print(
        f"{made[0]['distinct']:,} students, {DISTRICTS:,} districts and {SCHOOLS:,} schools;"
        f" in the second night {made[1]['changed']:,} students have changed"
    )
    with ExitStack() as running:
        sftp = running.enter_context(
            scene.stand_in("sftp", scene.folder / "dump", "--port", "0", "--keys", scene.folder / "sftp-keys")
        )
        art = running.enter_context(scene.stand_in("art", "--port", "0", "--unlimited"))
        console.print(f"sFTP server ({sftp['server']}) at {sftp['host']}:{sftp['port']}, ART at {art['rest_url']}")
        settings = scene.write("students.toml", "")
        settings.write_text(
            _SETTINGS.format(
                file=settings,
                state=scene.folder / "state",
                bootstrap=scene.broker.bootstrap,
                sftp=sftp,
                art=art,
                prefix=PREFIX,
            ),
            "utf-8",
        )
        _create_topics(scene)
        before, rows = 0, []
        for night, what in zip(nights, made, strict=True):
            console.print(f"\nThe night of {night}:\n")
            began = time.monotonic()
            report = _load(scene, settings, night)
            counters = _counters(art["control_url"])
            rows.append((night, what, report, counters["students"]["saved"] - before, time.monotonic() - began))
            before = counters["students"]["saved"]
        stored = counters["stored"]
    good = _compare(scene, rows, made[0], stored)
    console.print(f"\nReports: {scene.folder / 'reports'}; settings: {settings}", soft_wrap=True)
    return 0 if good else 1


def _create_topics(scene: Scene) -> None:
    cluster = Cluster(KafkaSettings(bootstrap=scene.broker.bootstrap, prefix=PREFIX))
    create_missing(cluster, catalogue())


def _make(scene: Scene, night: date, *more: str) -> Mapping[str, Any]:
    done = subprocess.run(
        scene.command(
            "sandbox", "students", scene.folder / "dump", "--rows", str(STUDENTS), "--districts", str(DISTRICTS),
            "--schools", str(SCHOOLS), "--seed", str(SEED), "--date", f"{night:%Y%m%d}", *more,
        ),
        check=True, capture_output=True,
    )  # fmt: skip
    made: Mapping[str, Any] = orjson.loads(done.stdout)
    return made


def _load(scene: Scene, settings: Path, night: date) -> Mapping[str, Any]:
    reports = scene.folder / "reports"
    job = f"art-load-{night:%Y%m%d}"
    code = scene.run("--config", settings, "art", "load", "--date", f"{night}", "--job", job, "--report", reports)
    # The made-up state has broken rows and unknown schools, as every state has.
    if code != Exit.PUT_ASIDE:
        log = scene.folder / "state" / "jobs" / f"{job}.log"
        raise NightWrong(night=night, code=code, log=log, settings=settings, job=job)
    report: Mapping[str, Any] = orjson.loads((reports / f"{job}.json").read_bytes())
    return report


def _counters(control: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = httpx2.get(f"{control}/counters", timeout=ANSWER_SECONDS).raise_for_status().json()
    return found


def _compare(
    scene: Scene,
    rows: list[tuple[date, Mapping[str, Any], Mapping[str, Any], int, float]],
    first: Mapping[str, Any],
    stored: Mapping[str, int],
) -> bool:
    table = Table(
        title="Students",
        caption="by the receipts; the last column is what ART itself says",
        box=box.SIMPLE,
        padding=(0, 1),
    )
    columns = ("night", "lines", "delivered", "unchanged", "dead", "held", "failed", "s", "at ART")
    for column in columns:
        table.add_column(column, justify="right")
    good = True
    for night, _, report, saved, seconds in rows:
        students = next(file for file in report["files"] if file["dataset"] == "art_students")
        good = good and bool(report["adds_up"])
        counts = [students[name] for name in ("rows", "delivered", "unchanged", "dead_lettered", "held", "failed")]
        table.add_row(str(night), *(f"{count:,}" for count in counts), f"{seconds:.0f}", f"{saved:,}")
    broken = sum(first["broken"].values())
    expected = first["distinct"] - broken - first["unknown_schools"]
    changed = rows[1][1]["changed"]
    good = good and bool(stored["students"] == expected and rows[1][3] == changed)
    scene.console.print()
    scene.console.print(table)
    scene.console.print(
        f"At ART: {stored['students']:,} of {expected:,} students that can be there ({broken} break its rules,"
        f" {first['unknown_schools']} are held, since nobody knows their school); the second night saved"
        f" {rows[1][3]:,} of {changed:,} that had changed. {'Balanced.' if good else 'NOT what it should be.'}"
    )
    return good
