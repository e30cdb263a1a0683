"""A18 beyond the log: no name, birth date or SSID is on any page of metrics or of the console while a load runs."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker
from tests.support import oracle
from tests.support.art_command import DATE, Office, job_of
from tests.support.art_loading import Dump, ServedArt, as_csv, rows_of, served_art
from tests.support.console import Client, ConsoleProcess, console
from tests.support.jobs import Command
from tests.support.running import new_cluster
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

SERVICES = ("csv_fanout", "entities", "students", "ledger", "alarms")
PERSONAL = ("SSID", "SmarterStudentID", "FirstName", "LastOrSurname", "DateofBirth")
LINK = re.compile(r'(?:href|hx-get)="(/[^"#]*)"')
MOST_PAGES = 300


@pytest.fixture
def art() -> Iterator[ServedArt]:
    with served_art() as served:
        yield served


def planted(folder: Path) -> tuple[Dump, set[str]]:
    """A dump whose personal values stand nowhere else; some of its rows are refused, here and there."""
    dump = Dump.make(folder, rows=400, unknown_schools=0.05)
    rows = [row for _, row in rows_of(dump.students)]
    for number, row in enumerate(rows):
        row |= {
            "SSID": f"77{number:06}31", "SmarterStudentID": f"88{number:06}42", "FirstName": f"Qwfirst{number:03}",
            "LastOrSurname": f"Qwlast{number:03}", "DateofBirth": f"{1993 + number % 20}-07-{1 + number % 28:02}",
        }  # fmt: skip
    values = {row[name] for row in rows for name in PERSONAL}
    rows[3]["Sex"] = "Qwneither"
    rows[4]["GradeLevelWhenAssessed"] = "Qwgrade"
    rows[5]["DateofBirth"] = "2009-02-30"
    lines = as_csv(rows).decode("latin-1").split("\n")
    lines[7] += "^Qwmore"
    lines[8] = '"' + lines[8]
    dump.students = "\n".join(lines).encode("latin-1")
    return dump, values | {"Qwneither", "Qwgrade", "2009-02-30", "Qwmore"}


def metrics(service: Command) -> str:
    """The page of a service."""
    found = re.search(r'"url":\s*"(http://[^"]+/metrics)"', service.text)
    assert found is not None, service.text
    return Client(found[1]).request("GET", "/metrics")[2]


class Visitor:
    """Somebody who is logged in at a console and follows every link."""

    def __init__(self, process: ConsoleProcess) -> None:
        self._client = Client(process.base)
        _, headers, _ = self._client.request("POST", "/login", {"token": process.token})
        self._cookie = headers["Set-Cookie"].partition(";")[0]

    def pages(self) -> dict[str, str]:
        """Every page that can be reached, by its address, and what is answered to the forms of dead letters."""
        found: dict[str, str] = {}
        todo = ["/", "/topology/history.json", "/files", "/dead-letters", "/no-such-page"]
        while todo and len(found) < MOST_PAGES:
            path = todo.pop()
            if path in found or path.startswith(("/static", "/logout")):
                continue
            found[path] = self._client.request("GET", path, Cookie=self._cookie)[2]
            todo += map(html.unescape, LINK.findall(found[path]))
        proof = re.search(r'name="proof" value="([^"]+)"', found["/dead-letters"])
        if proof is not None:
            form = {"proof": proof[1]}
            found["dry run"] = self._client.request("POST", "/dead-letters/dry-run", form, Cookie=self._cookie)[2]
        return found


def test_a18_no_personal_value_is_on_a_page_of_metrics_or_of_the_console_while_a_load_runs(
    broker: EmbeddedBroker, prefix: str, art: ServedArt, tmp_path: Path
) -> None:
    office = Office.of(broker.bootstrap, prefix, tmp_path / "office", art)
    dump, values = planted(tmp_path)
    files = office.put(dump)
    office.settings |= {f"HEADRACE_{name.upper()}__METRICS_PORT": "auto" for name in SERVICES}
    office.settings |= {"HEADRACE_SERVICES__EXTERNAL": "true", "HEADRACE_ART__BATCH_STUDENTS": "50"}
    office.settings |= {"HEADRACE_STUDENTS__CEILING": "50", "HEADRACE_LOG__LEVEL": "debug"}
    texts: dict[str, str] = {}
    with ExitStack() as held:
        services = {name: held.enter_context(office.service("run", name)) for name in SERVICES}
        place = {key: value for key, value in office.environment.items() if key.startswith("HEADRACE_")}
        visitor = Visitor(held.enter_context(console(new_cluster(broker.bootstrap, prefix), tmp_path, **place)))
        for service in services.values():
            service.await_line("/metrics")
        load = office.start("art", "load", "--date", DATE, *files)

        def look(when: str) -> None:
            texts.update({f"{when}: metrics of {name}": metrics(service) for name, service in services.items()})
            texts.update({f"{when}: {path}": page for path, page in visitor.pages().items()})

        wait_until(lambda: art.counted("students", "submitted") > 0, within=60)
        look("meanwhile")
        assert load.end(90) == 3, load.text
        job = job_of(load)
        wait_until(lambda: "stray-quote" in visitor.pages()["/dead-letters"], within=20)
        look("at the end")
    texts |= {f"log of {name}": service.text for name, service in services.items()}
    texts |= {"log of the console": (tmp_path / "console.log").read_text(), "output": load.text}
    for page in (f"/jobs/{job}", "/settings", "/files", "dry run"):
        assert f"at the end: {page}" in texts
    assert len([page for page in texts if page.startswith("at the end: /dead-letters/")]) == 4
    assert "headrace_fanout_rows_total" in texts["at the end: metrics of csv_fanout"]
    found = {(place, value) for place, text in texts.items() for value in values if value in text}
    assert {place for place, _ in found} == set()
    records = b"".join(
        each.value() or b"" for each in oracle.messages(office.bootstrap, f"{prefix}records.art_students")
    )
    bodies = b"".join(each.value() or b"" for each in oracle.messages(office.bootstrap, f"{prefix}dead-letters"))
    assert b"Qwlast000" in records
    assert all(value in bodies for value in (b"Qwneither", b"Qwmore", b"Qwlast006"))
