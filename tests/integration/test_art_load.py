"""`headrace art load` and `report` as cron runs them, and the scenarios of reference art 5.7 that are the command's."""

from __future__ import annotations

import csv
import random
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker
from headrace.families import catalogue
from tests.support import oracle
from tests.support.art_command import DATE, Office, file_of, job_of, serve
from tests.support.art_loading import Dump, ServedArt, rows_of, schools_of, served_art, zipped
from tests.support.sftp import FaultySftp

pytestmark = pytest.mark.kafka


@pytest.fixture
def art() -> Iterator[ServedArt]:
    with served_art() as served:
        yield served


@pytest.fixture
def office(broker: EmbeddedBroker, prefix: str, tmp_path: Path, art: ServedArt) -> Office:
    return Office.of(broker.bootstrap, prefix, tmp_path / "office", art)


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


def stored(art: ServedArt) -> dict[str, dict[str, object]]:
    return {student["ssid"]: student for student in art.table("students")}


def test_a_load_ends_when_every_line_is_at_art_and_the_same_again_does_nothing(
    office: Office, art: ServedArt, tmp_path: Path
) -> None:
    files = office.put(Dump.make(tmp_path, rows=300))
    first, second = (
        office.start("art", "load", "--date", DATE, *files),
        office.start("art", "load", "--date", DATE, *files),
    )
    assert (first.end(), second.end()) == (0, 0), first.text + second.text
    assert job_of(first) == job_of(second)
    assert len(stored(art)) == 300
    assert art.counted("students", "submitted") == 300
    requests = art.requests("batch_post")
    again = office.load(*files)
    assert any("unchanged" in line for line in again.lines)
    assert art.requests("batch_post") == requests
    assert set(office.opened().values()) == {1}
    report = office.report(job_of(first), code=0)
    assert report["adds_up"]
    assert file_of(report)["delivered"] == 300
    assert file_of(report, "art_schools")["delivered"] == 25
    batches = file_of(report)["batches"]
    assert sum(batch["delivered"] for batch in batches) == 300
    known = {f"{art.settings().url}/external/student/batch/{batch}" for batch in art.served.world.batches}
    assert {batch["status_url"] for batch in batches} == known
    assert {line.partition(": ")[2] for line in office.art("report", job_of(first)).lines if "URL" in line} == known


def test_a_night_from_the_server_then_the_next_night_of_which_only_the_changed_are_sent(
    office: Office, art: ServedArt, tmp_path: Path
) -> None:
    server = FaultySftp(tmp_path / "server")
    try:
        serve(server, Dump.make(tmp_path, rows=400), office, zipped=zipped)
        copy = tmp_path / "copy.zip"
        office.load("-f", copy)
        assert copy.read_bytes() == next((server.root / "Students").iterdir()).read_bytes()
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert len(stored(art)) == 400
        night = Dump.make(tmp_path, "20261106", rows=400, changed=0.05, removed=3, added=2)
        serve(server, night, office, zipped=zipped)
        second = office.load("--job", "second", "--json", "--report", tmp_path / "reports")
    finally:
        server.stop()
    report = office.report("second", "--out", tmp_path / "rows", "--rejected", code=0)
    students = file_of(report)
    assert (students["rows"], students["delivered"]) == (399, night.summary.changed + 2)
    assert students["known_not_in_file"] == 3
    gone = {row["SSID"] for row in table(tmp_path / "rows" / "second-not-in-dump.csv")}
    assert gone == set(stored(art)) - {row["SSID"] for _, row in rows_of(night.students)}
    counts = [row for row in table(tmp_path / "reports" / "second.csv") if row["dataset"] == "art_students"]
    assert sum(int(row["rows"]) for row in counts) == 399
    batches = table(tmp_path / "reports" / "second-batches.csv")
    assert sum(int(row["delivered"]) for row in batches) == night.summary.changed + 2
    assert second.says("written: ")
    told = [each for each in second.objects if each["event"] == "progress"]
    last = {(each["stage"], each["dataset"] or each["file"].partition("_")[2].partition("_")[0]): each for each in told}
    assert last["sftp_source", "students"]["bytes"] == last["sftp_source", "students"]["bytes_total"] > 0
    assert last["csv_fanout", "art_students"]["rows"] == last["csv_fanout", "art_students"]["rows_total"] == 399
    assert last["entities", "art_schools"]["entities"] == last["entities", "art_schools"]["entities_total"] == 30
    students = last["students", "art_students"]
    assert (students["rows"], students["rows_total"], students["backlog"]) == (399, 399, 0)
    assert students["batches"] == len(file_of(report)["batches"])


def test_a19_a_server_with_another_host_key_ends_the_load_as_failed_and_it_goes_on_when_that_is_mended(
    office: Office, art: ServedArt, tmp_path: Path
) -> None:
    server = FaultySftp(tmp_path / "server")
    try:
        serve(server, Dump.make(tmp_path, rows=10), office)
        office.settings["HEADRACE_SFTP_SOURCE__FINGERPRINT"] = "SHA256:" + "A" * 43
        refused = office.load(code=2)
        assert refused.says(server.fingerprint)
        (told,) = office.art("report", job_of(refused), "--json", code=1).whole
        assert (told["state"], told["files"]) == ("failed", [])
        assert server.fingerprint in told["reason"]
        assert office.opened() == {}
        assert art.table("students") == []
        office.settings["HEADRACE_SFTP_SOURCE__FINGERPRINT"] = server.fingerprint
        office.load(code=0)
    finally:
        server.stop()
    assert len(stored(art)) == 10
    assert office.report(job_of(refused), code=0)["state"] == "balanced"


def test_a_dump_that_is_missing_is_a_failure_and_no_students_go_without_their_schools(
    office: Office, art: ServedArt, tmp_path: Path
) -> None:
    server = FaultySftp(tmp_path / "server")
    try:
        serve(server, Dump.make(tmp_path, rows=10), office)
        next((server.root / "Schools").iterdir()).unlink()
        failed = office.load(code=1)
        assert failed.says("--entities=last")
        assert art.table("students") == []
    finally:
        server.stop()


def test_a_schools_file_that_is_refused_ends_the_load_at_once_and_the_last_schools_may_do(
    office: Office, art: ServedArt, tmp_path: Path
) -> None:
    office.settings["HEADRACE_CSV_FANOUT__ALLOW_SHRINK"] = "false"
    dump = Dump.make(tmp_path, rows=50, schools=30)
    office.load(*office.put(dump))
    changed = dump.students.replace(b"^No^", b"^Yes^")
    shrunk = b"\n".join(dump.schools.split(b"\n")[:9]) + b"\n"
    files = office.put(replace(dump, students=changed, schools=shrunk), "next")
    for _ in range(2):
        refused = office.load(*files, within=40, code=1)
        assert refused.says("was refused as a whole (shrunk)")
        assert refused.says("--entities=last")
        report = office.report(job_of(refused), code=1)
        assert (report["state"], [each["refused"] for each in report["files"]]) == ("failed", ["shrunk"])
    assert art.counted("students", "submitted") == 50
    office.load(*files, "--entities", "last", code=0)
    assert art.counted("students", "submitted") > 50


def test_a16_bad_lines_are_dead_letters_by_number_and_the_counts_add_up(
    office: Office, art: ServedArt, tmp_path: Path
) -> None:
    dump = Dump.make(tmp_path, rows=60, unknown_schools=0.05)
    lines = dump.students.decode("latin-1").split("\n")
    lines[5] = '"' + lines[5]
    lines[10] = ""
    lines[15] = lines[15].rpartition("^")[0]
    lines[20] += "^more"
    rows = [row for _, row in rows_of(dump.students)]
    broken = rows[29]
    lines[30] = lines[30].replace(broken["DateofBirth"], "2009-02-30")
    dump.students = "\r\n".join(lines).encode("latin-1")
    files = office.put(dump)
    loaded = office.load(*files, code=3)
    report = office.report(job_of(loaded), "--out", tmp_path / "out", "--rejected", code=3)
    students = file_of(report)
    assert report["adds_up"]
    assert students["rows"] == 60
    assert students["codes"]["held"] == {"unknown-school": 3}
    assert students["dead_lettered"] == 5
    assert (students["delivered"], len(stored(art))) == (52, 52)
    start = f"{tmp_path}/out/{job_of(loaded)}"
    reasons = table(Path(f"{start}-rejected-reasons.csv"))
    dead = {(int(row["line"]), row["code"]) for row in reasons if row["outcome"] == "dead_lettered"}
    assert dead == {
        (6, "stray-quote"), (11, "blank-line"), (16, "wrong-columns"), (21, "wrong-columns"),
        (31, "art-field-not-a-date"),
    }  # fmt: skip
    form = table(Path(f"{start}-rejected.csv"))
    assert len(form) == 4
    mine = next(row for row in form if row["SSID"] == broken["SSID"])
    assert (mine["LastOrSurname"], mine["Birthdate"]) == (broken["LastOrSurname"].strip(), "2009-02-30")
    assert mine["ResponsibleInstitutionIdentifier"] in schools_of(dump.schools).values()
    assert list(mine)[-1] == "Delete"
    unreadable = Path(f"{start}-unreadable.txt").read_bytes()
    assert unreadable == b"".join(lines[number].encode("latin-1") + b"\n" for number in (5, 10, 15, 20))
    assert stat.S_IMODE(Path(f"{start}-rejected.csv").stat().st_mode) == 0o600


def test_a_part_of_a_file_in_another_dialect_is_loaded_and_the_rest_is_left_alone(
    office: Office, art: ServedArt, tmp_path: Path
) -> None:
    dump = Dump.make(tmp_path, rows=100)
    rows = [row for _, row in rows_of(dump.students)]
    dump.students = dump.students.decode("latin-1").replace("^", ";").encode("utf-8")
    dump.schools = dump.schools.decode("latin-1").replace("^", ";").encode("utf-8")
    loaded = office.load(*office.put(dump), "-e", "utf-8", "-d", ";", "-s", "11", "-n", "20")
    assert set(stored(art)) == {row["SSID"] for row in rows[9:29]}
    students = file_of(office.report(job_of(loaded), code=0))
    assert (students["rows"], students["partial"], students["known_not_in_file"]) == (20, True, None)


def test_students_alone_go_to_the_schools_that_were_confirmed_last(
    office: Office, art: ServedArt, tmp_path: Path
) -> None:
    dump = Dump.make(tmp_path, rows=50)
    files = office.put(dump)
    office.load(*files, "-n", "10")
    requests = art.requests("institution_search")
    office.load(*files, "--entities", "last")
    assert len(stored(art)) == 50
    assert art.requests("institution_search") == requests


def test_a8_a_user_without_permission_is_told_so_and_the_load_goes_on_when_it_has_it(
    office: Office, art: ServedArt, tmp_path: Path
) -> None:
    files = office.put(Dump.make(tmp_path, rows=20))
    password = office.settings["HEADRACE_ART__PASSWORD"]
    office.settings["HEADRACE_ART__PASSWORD"] = "wrong-one"
    refused = office.load(*files, code=2)
    assert refused.says("cannot run")
    assert "wrong-one" not in refused.text
    office.settings["HEADRACE_ART__PASSWORD"] = password
    office.load(*files)
    assert len(stored(art)) == 20


@pytest.mark.parametrize("wrong", [("-n", "0"), ("-n", "-3"), ("-s", "0"), ("-o", "x"), ("stray.csv",), ("--nope",)])
def test_what_the_old_loader_let_pass_is_refused(office: Office, wrong: tuple[str, ...]) -> None:
    office.load("-l", *wrong, code=2)


def test_a18_no_name_no_ssid_and_no_token_is_in_headers_logs_metrics_and_reports(
    office: Office, art: ServedArt, tmp_path: Path
) -> None:
    dump = Dump.make(tmp_path, rows=120, unknown_schools=0.05, broken=0.1)
    rows = [row for _, row in rows_of(dump.students)]
    lines = dump.students.decode("latin-1").split("\n")
    lines[7] += "^more"
    dump.students = "\n".join(lines).encode("latin-1")
    office.settings |= {"HEADRACE_LOG__LEVEL": "debug"}
    loaded = office.load(*office.put(dump), code=3)
    job = job_of(loaded)
    told = office.art("report", job, "--out", tmp_path / "public", code=3)
    values = {
        row[name].strip() for row in rows for name in ("SSID", "SmarterStudentID", "LastOrSurname", "DateofBirth")
    }
    secrets = {value for value in values if len(value) > 5} | set(art.served.world.provider.issued)
    texts = {"output": loaded.text, "report": told.text}
    texts |= {str(path): path.read_text() for path in (tmp_path / "public").iterdir()}
    texts |= {str(path): path.read_text("utf-8", "replace") for path in (office.folder / "state").rglob("*.log")}
    for topic in (office.prefix + each.name for each in catalogue()):
        for message in oracle.messages(office.bootstrap, topic):
            texts.setdefault(f"headers of {topic}", "")
            texts[f"headers of {topic}"] += repr(message.headers())
            if topic.removeprefix(office.prefix) in ("upload-acks", "files", "jobs", "entities"):
                texts.setdefault(topic, "")
                texts[topic] += (message.value() or b"").decode("latin-1")
    assert len(texts) > 8
    found = {(place, secret) for place, text in texts.items() for secret in secrets if secret in text}
    assert {place for place, _ in found} == set()


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.long)])
def test_a12_a_load_that_is_killed_again_and_again_ends_with_every_student_at_art(
    office: Office, art: ServedArt, tmp_path: Path, kills: int
) -> None:
    dump = Dump.make(tmp_path, rows=1_500)
    files = office.put(dump)
    office.settings |= {"HEADRACE_ART__BATCH_STUDENTS": "50", "HEADRACE_STUDENTS__CEILING": "100"}
    chance = random.Random(kills)
    for _ in range(kills):
        load = office.start("art", "load", "--date", DATE, *files)
        load.await_line("job ")
        deadline = time.monotonic() + chance.uniform(0.5, 4)
        while time.monotonic() < deadline and load.code is None:
            threading.Event().wait(0.02)
        load.kill()
    loaded = office.load(*files, within=120)
    report = office.report(job_of(loaded), code=0)
    assert report["adds_up"]
    assert set(stored(art)) == {row["SSID"] for _, row in rows_of(dump.students)}


def test_a_dry_run_tells_what_a_load_would_do_and_writes_nothing(
    office: Office, art: ServedArt, tmp_path: Path
) -> None:
    first = Dump.make(tmp_path, rows=200)
    files = office.put(first)

    def told(*arguments: str, code: int) -> dict[tuple[str, str, str | None], int]:
        (rows,) = office.load(*arguments, "--dry-run", "--json", code=code).whole
        return {(row["dataset"], row["would_be"], row["code"]): row["number"] for row in rows}

    before = told(*files, code=0)
    assert before[("art_students", "sent", "new")] == 200
    assert sum(number for (dataset, _, _), number in before.items() if dataset == "art_schools") >= 25
    assert (art.table("students"), art.table("institutions"), office.opened()) == ([], [], {})
    office.load(*files)
    second = office.put(Dump.make(tmp_path, "20261106", rows=200, changed=0.05, added=2), "second")
    after = told(*second, code=0)
    assert after[("art_students", "unchanged", None)] == 190
    assert after[("art_students", "sent", "changed")] == 10
    assert after[("art_students", "sent", "new")] == 2
    requests = art.requests("batch_post")
    assert told(*files, code=0) == {
        ("art_schools", "unchanged", None): sum(
            number for (name, _, _), number in before.items() if name == "art_schools"
        ),
        ("art_students", "unchanged", None): 200,
    }
    assert art.requests("batch_post") == requests


def test_students_are_sent_again_from_a_file_or_from_the_log_though_nothing_has_changed(
    office: Office, art: ServedArt, tmp_path: Path
) -> None:
    dump = Dump.make(tmp_path, rows=60)
    files = office.put(dump)
    load = office.load(*files)
    students = files[2]
    rows = [row for _, row in rows_of(dump.students)]
    submitted = art.counted("students", "submitted")
    wanted = tmp_path / "ssids"
    wanted.write_text("\n".join(row["SSID"] for row in rows[:3]))
    assert office.art("resend", "-f", students, "--ssid-list", wanted, "--dry-run").says("3 rows of")
    assert art.counted("students", "submitted") == submitted
    office.art("resend", "-f", students, "--ssid-list", wanted, "--job", "three")
    assert art.counted("students", "submitted") == submitted + 3
    assert file_of(office.report("three", code=0))["delivered"] == 3
    school = rows[0]["ResponsibleSchoolIdentifier"]
    there = sum(row["ResponsibleSchoolIdentifier"] == school for row in rows)
    Path(students).unlink()
    office.art("resend", "--school", school)
    assert art.counted("students", "submitted") == submitted + 3 + there
    wanted.write_text("nobody")
    assert office.art("resend", "--of", job_of(load), "--ssid-list", wanted, code=2).says("none of the students")
    assert office.art("resend", "--of", "three", "--all", code=2).says("no student file of three")
    assert not list((office.folder / "state" / "resend").iterdir())
