"""The plain program that the ART stages are compared with: sequential, of the standard library, as loaders are written.

It reads the schools file and posts each district and school on a new connection, reads the students' zip with
csv.DictReader, maps, posts 10,000 a request on a new connection, and waits until ART has drained. It knows nothing of
errors, of what ART has already, or of what became of a student. Prints its seconds as JSON.
"""

from __future__ import annotations

import csv
import http.client
import io
import json
import time
import unicodedata
import urllib.parse
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from tests.support.art import PASSWORD, USER
from tests.support.art_feed import FLAGS, GRADES

CHUNK = 10_000
TEXTS = {
    "FirstName": "firstName", "MiddleName": "middleName", "LastOrSurname": "lastName", "Sex": "sex",
    "DateofBirth": "birthDate", "SmarterStudentID": "externalSsid",
    "FirstEntryDateIntoUSSchool": "firstEntryDateIntoUsSchool",
    "LimitedEnglishProficiencyEntryDate": "lepEntryDate", "LEPExitDate": "lepExitDate",
    "EnglishLanguageProficiencyLevel": "elpLevel", "LanguageCode": "languageCode",
    "PrimaryDisabilityType": "primaryDisabilityType", "StateAbbreviation": "stateAbbreviation",
}  # fmt: skip


def ask(method: str, url: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
    """One request on a connection of its own."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def rows(path: str) -> Iterator[dict[str, str]]:
    """The rows of a zip's one member."""
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as stream:
        text = io.TextIOWrapper(stream, "latin-1", newline="")
        yield from csv.DictReader(text, delimiter="^", quoting=csv.QUOTE_NONE)


def mapped(row: dict[str, str], schools: dict[str, str]) -> dict[str, Any]:
    """A row as ART wants it."""
    district, school = row["ResponsibleDistrictIdentifier"].strip(), row["ResponsibleSchoolIdentifier"].strip()
    student: dict[str, Any] = {
        "ssid": row["SSID"], "institutionIdentifier": schools.get(district + school),
        "districtIdentifier": (district + "0000000").rjust(14, "0"), "title3ProgramType": None,
        "gradeLevelWhenAssessed": GRADES.get(row["GradeLevelWhenAssessed"].strip(), "UG"),
    }  # fmt: skip
    for name, key in TEXTS.items():
        student[key] = row[name].strip()
    for name, key in FLAGS.items():
        student[key] = unicodedata.normalize("NFKD", row[name].strip().casefold()) == "yes"
    return student


def main(rest: str, token_url: str, control: str, schools_file: str, students_file: str) -> None:
    """Load both files."""
    form = {
        "grant_type": "password", "username": USER, "password": PASSWORD, "client_id": "headrace",
        "client_secret": "sandbox",
    }  # fmt: skip
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    _, answer = ask("POST", token_url, urllib.parse.urlencode(form).encode(), kind)
    headers = {"Authorization": f"Bearer {json.loads(answer)['access_token']}", "Content-Type": "application/json"}
    began = time.perf_counter()
    schools: dict[str, str] = {}
    entities: list[tuple[str, dict[str, str]]] = []
    for row in rows(schools_file):
        code, school = row["County-District Code"], row["School Code"]
        district = code + "0000000"
        cds = row["Auth CDS Code"].strip()
        schools[code + school] = cds
        common = {"stateAbbreviation": "CA"}
        if code == school:
            name = row["District Name"].strip()[:60]
            entities.append(("district", common | {
                "entityId": district, "entityName": name, "nationwideIdentifier": district, "parentEntityId": "CA",
                "parentEntityType": "STATE"}))  # fmt: skip
        entities.append(("institution", common | {
            "entityId": cds, "entityName": row["School Name"].strip()[:60], "nationwideIdentifier": cds,
            "parentEntityId": district, "parentEntityType": "DISTRICT"}))  # fmt: skip
    for wanted in ("district", "institution"):
        for what, record in entities:
            if what == wanted:
                status, _ = ask("POST", f"{rest}/{what}", json.dumps(record).encode(), headers)
                if status != 201:
                    raise SystemExit(f"{what}: {status}")
    entities_done = time.perf_counter()
    chunk: list[dict[str, Any]] = []

    def post() -> None:
        status, _ = ask("POST", f"{rest}/external/student/CA/batch", json.dumps(chunk).encode(), headers)
        if status != 202:
            raise SystemExit(f"batch: {status}")
        chunk.clear()

    for row in rows(students_file):
        chunk.append(mapped(row, schools))
        if len(chunk) == CHUNK:
            post()
    if chunk:
        post()
    while json.loads(ask("GET", f"{control}/counters", None, {})[1])["backlog"]:
        time.sleep(0.01)
    students_done = time.perf_counter()
    print(json.dumps({"entities": entities_done - began, "students": students_done - entities_done}))
