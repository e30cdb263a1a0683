"""The page that loads students, as an operator uses it: in a real browser, against the stand-ins of both servers."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.broker import EmbeddedBroker
from tests.support.art_command import DATE, Office, serve
from tests.support.art_loading import Dump, ServedArt, rows_of, served_art, zipped
from tests.support.console import CHROMIUM, WHY_NO_BROWSER, Client, ConsoleProcess, browsing, console, log_in
from tests.support.running import new_cluster
from tests.support.sftp import FaultySftp
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka
JOB = "art-load-" + DATE.replace("-", "")


@pytest.fixture
def art() -> Iterator[ServedArt]:
    with served_art() as served:
        yield served


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[FaultySftp]:
    server = FaultySftp(tmp_path / "sftp")
    yield server
    server.stop()


@pytest.fixture
def office(broker: EmbeddedBroker, prefix: str, tmp_path: Path, art: ServedArt) -> Office:
    return Office.of(broker.bootstrap, prefix, tmp_path / "office", art)


@pytest.fixture
def dump(tmp_path: Path, sftp: FaultySftp, office: Office) -> Dump:
    made = Dump.make(tmp_path, rows=200, broken=0.02, unknown_schools=0.02)
    serve(sftp, made, office, zipped=zipped)
    return made


@pytest.fixture
def running(office: Office, dump: Dump, request: pytest.FixtureRequest) -> Iterator[ConsoleProcess]:
    office.settings |= getattr(request, "param", {})
    # Where ART is stands in the file, since that is what is changed.
    url, secret = office.settings.pop("HEADRACE_ART__URL"), office.settings["HEADRACE_ART__CLIENT_SECRET"]
    file = office.folder / "headrace.toml"
    file.write_text(f'# Ours.\n[art]\nurl = "{url}x"  # mistyped\nclient_secret = "{secret}"\n')
    file.chmod(0o600)
    office.settings.pop("HEADRACE_ART__CLIENT_SECRET")
    cluster = new_cluster(office.bootstrap, office.prefix)
    with console(cluster, office.folder, **office.settings, HEADRACE_STATE=str(office.folder / "state")) as process:
        yield process


@pytest.mark.skipif(CHROMIUM is None, reason=WHY_NO_BROWSER)
def test_settings_are_mended_connections_tested_and_a_night_is_rehearsed_loaded_and_reported(
    running: ConsoleProcess, office: Office, art: ServedArt, dump: Dump, tmp_path: Path
) -> None:
    seen = []
    with browsing(tmp_path / "profile", viewport={"width": 400, "height": 800}) as page:
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)

        def look() -> None:
            page.wait_for_load_state()
            seen.append(page.content())
            assert page.evaluate("document.documentElement.scrollWidth") == 400, page.url

        def tested() -> str:
            page.get_by_role("button", name="Test the connections").press("Enter")
            page.get_by_role("table", name="Connections").wait_for()
            look()
            return str(page.get_by_role("row").filter(has_text="art: ART").inner_text())

        page.goto(running.login)
        page.wait_for_url(f"{running.base}/")
        page.get_by_role("link", name="Students").click()
        assert "failed" in tested()
        page.get_by_role("link", name="Change art", exact=True).click()
        field = page.get_by_label("url", exact=True)
        field.fill(field.input_value().removesuffix("x"))
        look()
        page.get_by_role("button", name="Save").press("Enter")
        page.get_by_text("Saved.").wait_for()
        assert "# mistyped" in (office.folder / "headrace.toml").read_text()
        page.get_by_role("link", name="Students").click()
        assert "well" in tested()

        page.get_by_label("Night").fill(DATE)
        page.get_by_role("button", name="Dry run").press("Enter")
        page.get_by_text("exit code 3").wait_for(timeout=60_000)
        look()
        assert re.search(r"sent +new +19\d", page.get_by_label("What it says").inner_text())
        assert not art.table("students")

        page.get_by_role("link", name="Students").click()
        page.get_by_label("Night").fill(DATE)
        page.get_by_role("button", name="Load", exact=True).press("Enter")
        page.wait_for_url("**/runs/*")
        address = page.url
        page.get_by_text("students.art", exact=True).wait_for(timeout=60_000)
        page.get_by_text("exit code 3").wait_for(timeout=60_000)
        page.get_by_text("balanced").first.wait_for()
        look()
        assert "200 of 200 rows" in page.get_by_role("table", name="Stages").inner_text()
        assert "service started" in page.get_by_label("Log", exact=True).inner_text()
        assert "schools file done" in page.get_by_label("Log of its services").inner_text()
        there = {student["ssid"] for student in art.table("students")}
        assert 190 <= len(there) < 200

        def download(name: str) -> Path:
            with page.expect_download() as found:
                page.get_by_role("link", name=name, exact=True).click()
            return Path(found.value.path())

        summary = json.loads(download(f"{JOB}.json").read_text())
        assert (summary["adds_up"], summary["state"]) == (True, "balanced")
        assert next(each for each in summary["files"] if each["dataset"] == "art_students")["rows"] == 200
        page.get_by_role("button", name="Report with rows").press("Enter")
        page.get_by_text("exit code 3").wait_for(timeout=60_000)
        assert page.get_by_text("personal data").count()
        rejected = list(csv.DictReader(download(f"{JOB}-rejected.csv").read_text().splitlines()))
        missing = {row["SSID"] for _, row in rows_of(dump.students)} - there
        assert {row["SSID"] for row in rejected} == missing
        look()
        page.goto(address)
        look()
        assert not problems
    values = {
        row[name].strip() for _, row in rows_of(dump.students) for name in ("SSID", "LastOrSurname", "DateofBirth")
    }
    secrets = {value for value in values if len(value) > 5} | set(art.served.world.provider.issued) | {running.token}
    assert {secret for secret in secrets for text in (*seen, running.log.read_text()) if secret in text} == set()
    assert running.close() == 0
    assert not list((office.folder / "state" / "console").iterdir()), "reports with rows are gone with the console"


@pytest.mark.parametrize("running", [{"HEADRACE_SFTP_SOURCE__SETTLE": "1h"}], indirect=True)
def test_two_clicks_are_one_load_which_stop_ends_and_no_address_leads_out_of_its_folder(
    running: ConsoleProcess, office: Office, art: ServedArt
) -> None:
    client = Client(running.base)
    cookie, proof = log_in(client, running.token)
    file = office.folder / "headrace.toml"
    file.write_text(file.read_text().replace('/restx"', '/rest"'))
    form = {"proof": proof, "action": "load", "with--date": DATE}

    def post(path: str, **more: str) -> tuple[int, Any]:
        status, headers, _ = client.request("POST", path, form | more, Cookie=cookie)
        return status, headers["Location"]

    assert post("/tasks/students", **{"with--number": "many"})[0] == 400
    assert post("/tasks/students", action="rm")[0] == 404
    started = post("/tasks/students")
    assert started == post("/tasks/students")
    address = started[1]

    def page() -> str:
        return client.request("GET", address, Cookie=cookie)[2]

    wait_until(lambda: "service started" in page(), within=30)
    for name in ("..%2Flog", "%2e%2e%2Flog", "..", "log", "%2Fetc%2Fpasswd"):
        assert client.request("GET", f"{address}/files/{name}", Cookie=cookie)[0] == 404
    assert post(f"{address}/stop") == (303, address)
    wait_until(lambda: "exit code" in page(), within=40)
    wait_until(lambda: "stopped" in client.request("GET", f"/jobs/{JOB}", Cookie=cookie)[2], within=10)
    assert not art.table("students")
