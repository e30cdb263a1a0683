"""The stand-in for ART behaves as the reference says that ART does (sections 3 and 5)."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from urllib.request import Request, urlopen

import aiohttp
import pytest

from headrace.sandbox.clock import SteppedClock
from headrace_art.sandbox.settings import ArtSandboxSettings
from tests.support.art import DISTRICT, OTHER, SCHOOL, Raw, student, students, with_raw

# Tokens (3.1, 3.2)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_secret": "wrong"}, "invalid_client"),
        ({"password": "wrong"}, "invalid_grant"),
        ({"grant_type": "magic"}, "unsupported_grant_type"),
    ],
)
def test_a_token_is_refused_with_an_oauth_error(changes, error):
    async def scenario(raw: Raw) -> None:
        answer = await raw.log_in(**changes)
        assert (answer.status, answer.json["error"]) == (400, error)

    with_raw(scenario)


def test_a_request_without_authorization_ends_on_a_login_page_with_status_200():
    async def scenario(raw: Raw) -> None:
        answer = await raw.ask("GET", "/state", token="")
        assert answer.status == 302
        landed = await raw.ask("GET", raw.sandbox.art.url + answer.headers["Location"])
        assert landed.status == 200
        assert "<form" in landed.text

    with_raw(scenario)


def test_an_unknown_token_is_given_back_in_the_error():
    async def scenario(raw: Raw) -> None:
        answer = await raw.ask("GET", "/state", token="stray")
        assert (answer.status, answer.json) == (401, {"error": "invalid_token", "error_description": "stray"})
        assert "invalid_token" in answer.headers["WWW-Authenticate"]

    with_raw(scenario)


@pytest.mark.parametrize(
    ("mode", "expected"), [("cached", {400}), ("purged", {401}), ("mixed", {400, 401})], ids=lambda value: str(value)
)
def test_an_expired_token_gets_400_or_401(mode, expected):
    async def scenario(raw: Raw) -> None:
        for node in (0, 1):
            assert (await raw.ask("GET", "/state", node=node)).status == 200
        await raw.sandbox.clock.advance(60)
        answers = [await raw.ask("GET", "/state", node=node) for node in (0, 1)]
        assert {answer.status for answer in answers} == expected
        assert {answer.json["error"] for answer in answers if answer.status == 400} <= {"invalid_grant"}

    with_raw(scenario, clock=SteppedClock(), token_ttl_s=60, expired_mode=mode, node_ports=True)


def test_a_revoked_token_still_works_where_it_is_remembered():
    async def scenario(raw: Raw) -> None:
        await raw.ask("GET", "/state", node=0)
        raw.sandbox.configure({"revoked": True})
        assert (await raw.ask("GET", "/state", node=0)).status == 200
        assert (await raw.ask("GET", "/state", node=1)).status == 401

    with_raw(scenario, node_ports=True)


def test_a_missing_permission_is_401_in_arts_envelope():
    async def scenario(raw: Raw) -> None:
        answer = await raw.post_batch([])
        assert answer.status == 401
        assert list(answer.json) == ["messages"]

    with_raw(scenario, permissions=("Student Modify", "Student Read"))


def test_plain_http_is_forbidden_where_https_is_required():
    async def scenario(raw: Raw) -> None:
        assert (await raw.post_batch([])).status == 403
        assert (await raw.post_batch([], headers={"X-Forwarded-Proto": "https"})).status == 202
        assert (await raw.ask("GET", "/state")).status == 200

    with_raw(scenario, https_required=True)


# Batches (3.4 to 3.6)


def test_a_batch_is_accepted_without_a_body_and_followed_by_its_location():
    async def scenario(raw: Raw) -> None:
        await raw.entities()
        posted = await raw.post_batch([*students(3), student(4, firstName="x" * 36), student(4, firstName="x" * 36)])
        assert (posted.status, posted.text) == (202, "")
        base = raw.sandbox.rest_url + "/external/student/batch/"
        assert posted.headers["Location"].startswith(base)
        status = await raw.finished(posted)
        assert (status["numSubmitted"], status["numSuccess"], status["percentComplete"]) == (5, 3, 1.0)
        # Two equal failures are one exception.
        assert status["numExceptions"] == 1
        assert status["exceptions"] == [{"ssid": "7700000004", "errorMessage": "firstName is longer than 35\n"}]
        assert await raw.ask("GET", posted.headers["Location"], token=raw.token)
        await raw.log_in(OTHER)
        foreign = await raw.ask("GET", posted.headers["Location"])
        assert foreign.status == 400
        assert "Error Code: " in foreign.json["messages"]["applicationErrors"][0]

    with_raw(scenario)


def test_a_location_loses_every_occurrence_of_the_state():
    async def scenario(raw: Raw) -> None:
        assert (await raw.post_batch([])).headers["Location"].startswith("http:/.internal:8443/rest/external/student/b")

    with_raw(scenario, location_host="CA.internal:8443")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"data": b'[{"ssid": "1"},'}, "bind.exception"),
        ({"body": [student(1), student(2, birthDate="11/30/2009")]}, "bind.exception"),
        ({"body": [student(1), student(2, birthDate="2009-02-30")]}, "bind.exception"),
        ({"body": [student(1), student(2, asian="Yes")]}, "Invalid format for the field asian"),
        ({"body": [student(1), student(2, iDEAIndicator=1)]}, "Invalid format for the field iDEAIndicator"),
    ],
)
def test_one_element_that_does_not_bind_refuses_the_whole_array(body, text):
    async def scenario(raw: Raw) -> None:
        answer = await raw.post_batch(body.get("body"), data=body.get("data"))
        assert (answer.status, answer.json["messages"]) == (400, {"applicationErrors": [text]})
        assert not raw.sandbox.world.batches

    with_raw(scenario)


def test_an_unchanged_student_is_skipped_and_a_blank_district_is_saved_anew():
    async def scenario(raw: Raw) -> None:
        await raw.entities()
        for _ in range(3):
            await raw.finished(await raw.post_batch([student(1, sex="FEMALE"), student(2, districtIdentifier="")]))
        assert raw.counted("students", "saved") == 1 + 3
        assert raw.counted("students", "unchanged") == 2
        stored = (await raw.ask("GET", "/external/student/CA/7700000002")).json
        assert (stored["districtIdentifier"], stored["sex"]) == ("99001230000000", "Female")
        assert raw.sandbox.world.students.saved_again == {("CA", "7700000002"): 2}

    with_raw(scenario)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ssid": ""}, "ssid is required"),
        ({"ssid": "77-1"}, "ssid must be letters and digits"),
        ({"externalSsid": "x" * 51}, "externalSsid is longer than 50"),
        ({"institutionIdentifier": None}, "institutionIdentifier is required"),
        ({"firstName": "Ωmega"}, "firstName has characters that are not allowed"),
        ({"lastName": "O“Neil"}, "lastName has characters that are not allowed"),
        ({"lastName": "x" * 101}, "lastName is longer than 100"),
        ({"sex": "X"}, "sex is none of the valid values"),
        ({"gradeLevelWhenAssessed": "KN"}, "gradeLevelWhenAssessed is none of the valid values"),
        ({"languageCode": "es"}, "languageCode is none of the valid values"),
        ({"primaryDisabilityType": "ZZ"}, "primaryDisabilityType is none of the valid values"),
        ({"elpLevel": "é"}, "elpLevel must be ASCII"),
        ({"stateAbbreviation": "ca"}, "stateAbbreviation ca is not CA"),
    ],
)
def test_a_student_that_breaks_a_rule_fails_only_in_the_status(changes, message):
    async def scenario(raw: Raw) -> None:
        status = await raw.finished(await raw.post_batch([student(1, **changes), student(2)]))
        assert (status["numSuccess"], status["exceptions"][0]["errorMessage"]) == (1, message + "\n")

    with_raw(scenario)


@pytest.mark.parametrize("name", ["O\N{RIGHT SINGLE QUOTATION MARK}Neil", "Šárka", "x" * 100, "D'Ñunez ÿ", "Ž"])
def test_names_in_arts_characters_are_taken(name):
    async def scenario(raw: Raw) -> None:
        status = await raw.finished(await raw.post_batch([student(1, lastName=name)]))
        assert status["numSuccess"] == 1

    with_raw(scenario)


def test_a_student_of_an_unknown_school_is_stored_without_a_link():
    async def scenario(raw: Raw) -> None:
        await raw.finished(await raw.post_batch([student(1)]))
        assert raw.sandbox.world.students.unlinked == {("CA", "7700000001"): "district institution"}
        await raw.entities()
        await raw.finished(await raw.post_batch([student(1)]))  # unchanged, so not repaired
        assert raw.sandbox.world.students.unlinked
        await raw.finished(await raw.post_batch([student(1, firstName="Nora")]))
        assert not raw.sandbox.world.students.unlinked

    with_raw(scenario)


def test_students_of_a_new_school_are_denied_until_entities_have_been_still():
    async def scenario(raw: Raw) -> None:
        await raw.entities()
        denied = await raw.finished(await raw.post_batch([student(1)]))
        assert denied["exceptions"][0]["errorMessage"] == "access denied to district\n"
        await raw.sandbox.clock.advance(10)
        assert (await raw.finished(await raw.post_batch([student(1)])))["numSuccess"] == 1

    with_raw(scenario, clock=SteppedClock(), entity_cache_lag_s=10)


def test_many_are_deleted_and_one_is_read_saved_and_deleted_at_once():
    async def scenario(raw: Raw) -> None:
        first = await raw.ask("POST", "/external/student/CA", student(1))
        assert (first.status, first.headers["Location"]) == (
            201,
            raw.sandbox.rest_url + "/external/student/CA/7700000001",
        )
        assert (await raw.ask("POST", "/external/student/CA", student(1, sex="Male"))).status == 204
        refused = await raw.ask("POST", "/external/student/CA", student(2, sex="X"))
        assert (refused.status, list(refused.json["messages"])) == (400, ["sex"])
        assert (await raw.ask("GET", "/external/student/CA/7700000001")).json["sex"] == "Male"
        assert (await raw.ask("GET", "/external/student/CA/nobody")).status == 404
        removals = [{"ssid": f"770000000{number}", "stateCode": "CA"} for number in (1, 2)]
        status = await raw.finished(await raw.ask("DELETE", "/external/student/CA/batch", removals))
        assert (status["numSuccess"], status["upsert"]) == (1, False)
        assert (await raw.ask("DELETE", "/external/student/CA/7700000001")).status == 404

    with_raw(scenario)


def test_accommodations_vanish_when_a_student_is_replaced():
    async def scenario(raw: Raw) -> None:
        await raw.finished(await raw.post_batch(students(2)))
        await raw.sandbox.commands()["accommodations"]({"ssids": ["7700000001", "7700000002"]})
        await raw.finished(await raw.post_batch([student(1), student(2, sex="Male")]))
        assert raw.counted("accommodations_lost") == 1

    with_raw(scenario)


# Districts and institutions (3.7)


def test_entities_are_created_found_and_renamed():
    async def scenario(raw: Raw) -> None:
        created = await raw.ask("POST", "/district", DISTRICT)
        assert (created.status, created.headers["Location"]) == (201, f"/district/{created.json['id']}")
        school = await raw.ask("POST", "/institution", SCHOOL)
        assert (school.status, "Location" in school.headers) == (201, False)
        page = (await raw.ask("GET", "/institution?entityIdExact=99001230456789&stateAbbreviation=CA")).json
        assert (page["totalCount"], page["pageSize"], page["searchResults"][0]["entityName"]) == (
            1, 10, SCHOOL["entityName"],
        )  # fmt: skip
        changed = {**page["searchResults"][0], "entityName": "Otter Creek"}
        assert (await raw.ask("PUT", f"/institution/{changed['id']}", changed)).status == 200
        assert (await raw.ask("PUT", f"/institution/{'0' * 24}", changed)).status == 400
        children = (await raw.ask("GET", f"/institution?districtId={created.json['id']}")).json
        assert [child["entityName"] for child in children] == ["Otter Creek"]
        assert (await raw.ask("DELETE", created.headers["Location"])).status == 400
        assert (await raw.ask("DELETE", f"/institution/{changed['id']}")).status == 204
        assert (await raw.ask("DELETE", created.headers["Location"])).status == 204

    with_raw(scenario)


@pytest.mark.parametrize(
    ("kind", "entity", "key"),
    [
        ("district", DISTRICT, "LocalEducationAgencyIdentifier"),
        ("institution", SCHOOL, "InstitutionIdentifier"),
        ("institution", {**SCHOOL, "entityId": "1", "nationwideIdentifier": "1", "parentEntityId": "nowhere"},
         "ParentExternalId"),
        ("district", {**DISTRICT, "entityId": "1"}, "NCESLEAID"),
        ("institution", {**SCHOOL, "entityId": "1"}, "NCESInstitutionId"),
        ("district", {**DISTRICT, "entityId": "1", "entityName": "x" * 61}, "entityName"),
        ("district", {**DISTRICT, "entityId": "1-2"}, "entityId"),
        ("institution", {**SCHOOL, "entityId": "1", "nationwideIdentifier": "0"}, "nationwideIdentifier"),
        ("district", {**DISTRICT, "entityId": "1", "parentEntityType": "DISTRICT"}, "parentEntityType"),
    ],
)  # fmt: skip
def test_an_entity_is_refused_with_the_key_of_the_rule(kind, entity, key):
    async def scenario(raw: Raw) -> None:
        await raw.entities()
        answer = await raw.ask("POST", f"/{kind}", entity)
        assert (answer.status, list(answer.json["messages"])) == (400, [key])

    with_raw(scenario)


# Back-pressure (5.3)


def slow(**changes: object) -> dict[str, object]:
    return {
        "nodes": 1,
        "queue_max": 100,
        "consume_changed": 10,
        "consume_unchanged": 10,
        "clock": SteppedClock(),
    } | changes


async def until(raw: Raw, state: str) -> None:
    async with asyncio.timeout(5):
        while raw.sandbox.nodes[0].state != state:
            await asyncio.sleep(0.001)


def test_publishing_is_slowed_down_then_hangs_then_resumes():
    async def scenario(raw: Raw) -> None:
        clock = raw.sandbox.clock
        assert (await raw.post_batch(students(50))).status == 202
        hanging = asyncio.ensure_future(raw.post_batch(students(200, first=100)))
        await until(raw, "blocked")
        await clock.advance(5)
        assert not hanging.done()
        assert raw.sandbox.nodes[0].state == "blocked"
        for _ in range(60):
            await clock.advance(1)
        assert (await hanging).status == 202
        assert raw.counted("queue_deepest") == 100
        assert raw.counted("students", "saved") >= 150
        assert raw.counted("state_seconds", "0", "blocked") > 0

    with_raw(scenario, **slow())


def test_a_node_refuses_connections_when_all_its_threads_hang_and_takes_them_again():
    async def scenario(raw: Raw) -> None:
        clock = raw.sandbox.clock
        hanging = [asyncio.ensure_future(raw.post_batch(students(101, first=n * 1000))) for n in range(6)]
        await until(raw, "refusing")
        async with aiohttp.ClientSession() as fresh:
            with pytest.raises(aiohttp.ClientConnectorError):
                await fresh.get(raw.sandbox.rest_url + "/status")
        for _ in range(300):
            await clock.advance(1)
        assert {(await each).status for each in hanging} == {202}
        await until(raw, "running")
        assert (await raw.ask("GET", "/status")).status == 200
        assert raw.counted("states_entered", "0", "refusing") >= 1

    with_raw(scenario, **slow(request_threads=2, accept_backlog=2))


def test_a_restarted_broker_loses_what_was_queued_and_the_batch_is_never_done():
    async def scenario(raw: Raw) -> None:
        posted = await raw.post_batch(students(40))
        hanging = asyncio.ensure_future(raw.post_batch(students(200, first=100)))
        await until(raw, "blocked")
        await raw.sandbox.commands()["broker/restart"]({})
        broken = await hanging
        assert broken.status == 400
        assert "Error Code" in broken.text
        await raw.sandbox.clock.advance(60)
        status = await raw.status(posted)
        assert status["numProcessed"] < status["numSubmitted"] == 40
        counted = raw.sandbox.counted()
        assert counted["backlog"] == 0
        assert counted["batches"] == {"lost": 2}

    with_raw(scenario, **slow())


# Faults (5.4)


def test_an_answer_lost_after_processing_leaves_the_students_saved():
    async def scenario(raw: Raw) -> None:
        with pytest.raises(aiohttp.ClientError):
            await raw.post_batch(students(3))
        assert raw.counted("students", "submitted") == 3
        with pytest.raises(aiohttp.ClientError):
            await raw.post_batch(students(5))
        assert raw.counted("students", "submitted") == 3

    faults = [
        {"endpoint": "batch_post", "nth": 1, "action": "drop_after"},
        {"endpoint": "batch_post", "nth": 2, "action": "drop_before"},
    ]
    with_raw(scenario, faults=faults)


def test_a_batch_may_be_published_in_part_or_lose_its_location():
    async def scenario(raw: Raw) -> None:
        broken = await raw.post_batch(students(5))
        assert broken.status == 400
        assert "Location" not in broken.headers
        lost = await raw.post_batch(students(5, first=100))
        assert (lost.status, "Location" in lost.headers) == (202, False)
        while raw.counted("students", "saved") < 2 + 5:
            await asyncio.sleep(0.005)
        assert raw.sandbox.counted()["batches"] == {"lost": 1, "done": 1}

    faults = [
        {"endpoint": "batch_post", "nth": 1, "action": "partial_publish", "count": 2},
        {"endpoint": "batch_post", "nth": 2, "action": "no_location"},
    ]
    with_raw(scenario, faults=faults)


def test_bursts_half_answers_and_killed_nodes():
    async def scenario(raw: Raw) -> None:
        assert [(await raw.ask("GET", "/state")).status for _ in range(4)] == [503, 503, 200, 200]
        with pytest.raises(aiohttp.ClientPayloadError):
            await raw.ask("GET", "/student/languages")
        await raw.sandbox.nodes[0].kill()
        assert {(await raw.ask("GET", "/state")).status for _ in range(4)} == {502, 200}
        await raw.sandbox.nodes[1].kill()
        with pytest.raises(aiohttp.ClientError):
            await raw.ask("GET", "/state")
        await raw.sandbox.nodes[0].restore()
        await raw.sandbox.nodes[1].restore()
        assert (await raw.ask("GET", "/state")).status == 200

    faults = [
        {"endpoint": "state_search", "nth": 1, "action": "burst", "count": 2},
        {"endpoint": "languages", "action": "truncate_body"},
    ]
    with_raw(scenario, faults=faults)


def test_a_body_over_the_limit_of_the_proxy_is_refused_as_html():
    async def scenario(raw: Raw) -> None:
        answer = await raw.post_batch(students(10))
        assert answer.status == 413
        assert "<html>" in answer.text

    with_raw(scenario, max_body=1000)


# The command and its control port (5.5)


def test_the_command_serves_until_it_is_told_to_stop_and_the_control_port_rules_it():
    command = [
        sys.executable,
        "-m",
        "headrace",
        "sandbox",
        "art",
        "--port",
        "0",
        "--stepped",
        "--set",
        "token_ttl_s=60",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        urls = json.loads(process.stdout.readline())
        # Who rehearses a load must know whom it lets in.
        known = ArtSandboxSettings()
        assert known.users == {urls["username"]: urls["password"]}
        assert (known.client_id, known.client_secret) == (urls["client_id"], urls["client_secret"])

        def control(method: str, path: str, body: object = None) -> bytes:
            data = None if body is None else json.dumps(body).encode()
            with urlopen(Request(urls["control_url"] + path, data, method=method)) as response:  # noqa: S310
                return response.read()

        before = json.loads(control("GET", "/clock"))["now"]
        control("POST", "/clock/advance", {"seconds": 300})
        assert json.loads(control("GET", "/clock"))["now"] == before + 300
        control("PUT", "/faults", [{"action": "delay", "endpoint": "batch_*"}])
        assert json.loads(control("GET", "/faults"))[0]["endpoint"] == "batch_*"
        control("POST", "/configure", {"consume_changed": 0})
        control("POST", "/reset", {})
        assert json.loads(control("GET", "/counters"))["stored"]["students"] == 0
        assert b'"entityId":"CA"' in control("GET", "/tables/states")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
