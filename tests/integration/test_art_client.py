"""The client of ART against the stand-in, with what goes wrong between them."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

import pytest

from headrace.errors import HeadraceError
from headrace.sandbox.clock import Clock, RunningClock
from headrace_art.client import ArtClient
from headrace_art.client.errors import (
    AnswerLost,
    AnswerMalformed,
    ArrayRefused,
    ArtFault,
    ArtUnreachable,
    ArtUnwell,
    BodyTooLarge,
    CertificateRefused,
    CredentialsRefused,
    FieldsRefused,
    HttpsRequired,
    LocationMissing,
    PermissionMissing,
    ProviderUnwell,
    TokenNotTaken,
)
from headrace_art.client.patience import Patience
from headrace_art.sandbox.server import ArtSandbox
from headrace_art.sandbox.settings import ArtSandboxSettings
from tests.support.art import DISTRICT, QUICK, SCHOOL, art_settings, sandbox, student, students

Result = TypeVar("Result")


def encoded(rows: Iterable[Mapping[str, Any]]) -> list[bytes]:
    return [json.dumps(row).encode() for row in rows]


def with_client(
    scenario: Callable[[ArtClient, ArtSandbox], Awaitable[Result]],
    client: Mapping[str, Any] | None = None,
    clock: Clock | None = None,
    **settings: Any,
) -> Result:
    async def run() -> Result:
        async with (
            sandbox(clock, **settings) as served,
            ArtClient(art_settings(served, **(client or {})), time=served.clock) as art,
        ):
            return await scenario(art, served)

    return asyncio.run(asyncio.wait_for(run(), 30))


def issued(served: ArtSandbox) -> int:
    return int(served.world.counters.get("tokens_issued"))


async def finished(art: ArtClient, batch: str) -> Any:
    while not (status := await art.batch(batch)).done:
        await asyncio.sleep(0.005)
    return status


def test_a_batch_is_followed_to_its_end_whatever_art_calls_itself():
    async def scenario(art: ArtClient, _: ArtSandbox) -> None:
        batch = await art.post_batch(encoded([*students(3), student(4, sex="X")]))
        status = await finished(art, batch)
        assert (status.submitted, status.succeeded, status.failed) == (4, 3, 1)
        assert [failure.ssid for failure in status.failures] == ["7700000004"]

    with_client(scenario, location_host="art-node-7.internal:8080")


def test_single_students_are_saved_read_and_deleted():
    async def scenario(art: ArtClient, _: ArtSandbox) -> None:
        (row,) = encoded([student(1)])
        assert [await art.post_student(row), await art.post_student(row)] == [True, False]
        stored = await art.student("7700000001")
        assert stored is not None
        assert stored["firstName"] == "Noé"
        assert [await art.delete_student("7700000001"), await art.delete_student("7700000001")] == [True, False]
        assert await art.student("../../district?x=1#") is None
        batch = await art.delete_batch(["7700000009"])
        assert (await finished(art, batch)).failed == 1

    with_client(scenario)


def test_entities_are_found_created_and_renamed_over_pooled_connections():
    async def scenario(art: ArtClient, served: ArtSandbox) -> None:
        assert await art.state_exists()
        assert await art.find("district", DISTRICT["entityId"]) is None
        await art.create("district", DISTRICT)
        schools = [
            {**SCHOOL, "entityId": f"9900123{number:07}", "nationwideIdentifier": f"9900123{number:07}"}
            for number in range(200)
        ]
        await asyncio.gather(*(art.create("institution", school) for school in schools))
        found = await art.find("institution", schools[7]["entityId"])
        assert found is not None
        renamed = await art.replace("institution", found, {"entityName": "Otter Creek"})
        assert (renamed.name, renamed.entity_id, renamed.id) == ("Otter Creek", found.entity_id, found.id)
        assert (await art.find("institution", found.entity_id)) == renamed
        with pytest.raises(FieldsRefused, match="InstitutionIdentifier"):
            await art.create("institution", schools[7])
        assert served.world.counters.get("connections", "art") <= 8
        assert served.world.counters.get("requests") > 200
        assert len(await art.languages()) == 484
        assert "KG" in await art.grades()

    with_client(scenario, client={"connections": 8})


# Tokens (R10, A7, A8)


def test_tokens_that_live_five_seconds_are_renewed_once_a_life_however_many_ask():
    async def scenario(art: ArtClient, served: ArtSandbox) -> None:
        end = served.clock.now() + 30

        async def worker(number: int) -> int:
            calls = 0
            while served.clock.now() < end:
                await art.student(f"77{number}")
                calls += 1
                await served.clock.sleep(0.1)
            return calls

        calls = await asyncio.gather(*(worker(number) for number in range(8)))
        assert min(calls) > 5
        assert issued(served) <= 30 / (5 * 0.8) + 2

    with_client(scenario, clock=RunningClock(speed=15), token_ttl_s=5, expired_mode="mixed")


@pytest.mark.parametrize("mode", ["cached", "purged", "mixed"])
def test_tokens_that_run_out_in_mid_flight_are_renewed_once_for_all_who_used_them(mode):
    async def scenario(art: ArtClient, served: ArtSandbox) -> None:
        await asyncio.gather(*(art.student(f"77{number}") for number in range(16)))
        served.world.provider.expire_all()
        await asyncio.gather(*(art.student(f"77{number}") for number in range(16)))
        assert await finished(art, await art.post_batch(encoded(students(3))))
        assert issued(served) == 2

    with_client(scenario, expired_mode=mode)


def test_a_missing_permission_is_told_and_asks_for_no_other_token():
    async def scenario(art: ArtClient, served: ArtSandbox) -> None:
        for _ in range(3):
            with pytest.raises(PermissionMissing, match="Student Modify and Student Upload"):
                await art.post_batch(encoded(students(1)))
        assert issued(served) == 1

    with_client(scenario, permissions=("Student Read", "Student Modify"))


def test_wrong_credentials_are_told_without_them():
    async def scenario(art: ArtClient, _: ArtSandbox) -> None:
        with pytest.raises(CredentialsRefused, match=r"\(invalid_grant\)") as refused:
            await art.log_in()
        assert "opensesame" not in f"{refused.value} {refused.value.details}"

    with_client(scenario, client={"password": "opensesame"})


def test_a_login_page_means_a_new_token_and_then_that_tokens_are_not_taken():
    async def scenario(art: ArtClient, served: ArtSandbox) -> None:
        assert await art.student("771") is None
        assert issued(served) == 2
        with pytest.raises(TokenNotTaken):
            await art.state_exists()

    faults = [
        {"endpoint": "student_get", "nth": 1, "action": "status", "status": 302},
        {"endpoint": "states_lookup", "action": "status", "status": 200},
    ]
    with_client(scenario, faults=faults)


@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"status": 200, "body": "html"}, {"status": 200, "body": "empty"}], ids=str
)
def test_a_token_provider_that_is_unwell_is_transient(fault):
    async def scenario(art: ArtClient, _: ArtSandbox) -> None:
        with pytest.raises(ProviderUnwell):
            await art.log_in()
        await art.log_in()

    with_client(scenario, faults=[{"endpoint": "token", "nth": 1, "action": "status", **fault}])


# What goes wrong on the way (3.8, 5.4)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"action": "status", "status": 503}, ArtUnwell),
        ({"action": "status", "status": 500, "body": "empty"}, ArtUnwell),
        ({"action": "drop_before"}, AnswerLost),
        ({"action": "drop_after"}, AnswerLost),
        ({"action": "no_location"}, LocationMissing),
        ({"action": "partial_publish", "count": 1}, ArtFault),
        ({"action": "delay", "seconds": 5}, AnswerLost),
    ],
    ids=str,
)
def test_a_batch_that_went_wrong_is_an_error_that_says_how(fault, error):
    async def scenario(art: ArtClient, _: ArtSandbox) -> None:
        with pytest.raises(error):
            await art.post_batch(encoded(students(2)))
        assert await finished(art, await art.post_batch(encoded(students(2))))

    faults = [{"endpoint": "batch_post", "times": 1, **fault}]
    with_client(scenario, client={"batch_timeout": "0.3s"}, faults=faults)


def test_half_answers_and_slow_ones_are_lost_answers():
    async def scenario(art: ArtClient, _: ArtSandbox) -> None:
        with pytest.raises(AnswerLost, match=r"closed|too long"):
            await art.languages()
        with pytest.raises(AnswerLost, match="took too long"):
            await art.grades()

    faults = [
        {"endpoint": "languages", "action": "truncate_body"},
        {"endpoint": "grades", "action": "slow_loris"},
    ]
    with_client(scenario, client={"timeout": "0.5s"}, faults=faults)


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ([b'{"ssid": "1", "birthDate": "11/30/2009"}'], ArrayRefused),
        ([b'{"ssid": "1", "asian": "Yes"}'], ArrayRefused),
        ([b"{"], ArrayRefused),
        ([b'{"ssid": "' + b"1" * 2000 + b'"}'], BodyTooLarge),
    ],
)
def test_what_art_refuses_whole_can_be_bisected(rows, error):
    async def scenario(art: ArtClient, _: ArtSandbox) -> None:
        with pytest.raises(error):
            await art.post_batch(rows)

    with_client(scenario, max_body=1000)


def test_a_single_student_is_refused_by_field_and_an_unknown_batch_as_a_fault():
    async def scenario(art: ArtClient, _: ArtSandbox) -> None:
        with pytest.raises(FieldsRefused) as refused:
            await art.post_student(encoded([student(1, sex="X", firstName="x" * 36)])[0])
        assert set(refused.value.fields) == {"sex", "firstName"}
        with pytest.raises(ArtFault):
            await art.batch("0" * 24)
        with pytest.raises(AnswerMalformed):
            await art.languages()

    with_client(scenario, faults=[{"endpoint": "languages", "action": "status", "status": 200, "body": "empty"}])


def test_plain_http_where_https_is_required():
    async def scenario(art: ArtClient, _: ArtSandbox) -> None:
        with pytest.raises(HttpsRequired, match="https://"):
            await art.post_batch(encoded(students(1)))

    with_client(scenario, https_required=True)


def test_nothing_listens():
    async def scenario(art: ArtClient, served: ArtSandbox) -> None:
        await art.log_in()
        served.art.refuse()
        with pytest.raises(ArtUnreachable, match="nothing was sent"):
            await art.state_exists()

    with_client(scenario)


# Patience (R8, A5, A11)


def test_an_outage_of_five_minutes_is_waited_out_by_many_callers_with_few_tries():
    async def scenario(art: ArtClient, served: ArtSandbox) -> None:
        patience = Patience(served.clock, deadline=3600)
        await art.log_in()
        for node in served.nodes:
            await node.kill()

        async def heal() -> None:
            await served.clock.sleep(300)
            for node in served.nodes:
                await node.restore()

        healing = asyncio.create_task(heal())
        began = served.clock.now()
        answers = await asyncio.gather(*(patience.run(lambda: art.state_exists()) for _ in range(20)))
        assert answers == [True] * 20
        assert 300 <= served.clock.now() - began < 420
        await healing

    with_client(scenario, clock=RunningClock(speed=150))


def test_bursts_of_503_and_a_killed_node_are_survived():
    async def scenario(art: ArtClient, served: ArtSandbox) -> None:
        patience = Patience(served.clock, deadline=600)
        for number in range(40):
            if number == 20:
                await served.nodes[0].kill()
            assert await patience.run(lambda: art.student("77")) is None
        requests = served.world.counters.as_tree()["requests"]["student_get"]
        assert requests["404"] == 40
        assert requests["503"] >= 3
        assert requests["502"] > 0

    faults = [{"action": "burst", "every": 10, "count": 3, "endpoint": "student_get"}]
    with_client(scenario, clock=RunningClock(speed=60), faults=faults)


def test_a_call_that_stays_unwell_raises_its_last_error_after_the_deadline():
    async def scenario(art: ArtClient, served: ArtSandbox) -> None:
        patience, began = Patience(served.clock, deadline=60), served.clock.now()
        results = await asyncio.gather(
            *(patience.run(lambda: art.student("77")) for _ in range(12)), return_exceptions=True
        )
        assert {type(result) for result in results} == {ArtUnwell}
        assert served.clock.now() - began < 90
        assert served.world.counters.get("requests", "student_get") < 60

    with_client(
        scenario, clock=RunningClock(speed=60), faults=[{"endpoint": "student_get", "action": "status", "status": 503}]
    )


# Secrets


def test_no_error_shows_a_token_or_a_student():
    async def scenario(art: ArtClient, served: ArtSandbox) -> list[str]:
        shown = []
        tokens = set()
        row = encoded([student(1, sex="Quxform", firstName="Zyxel" * 8)])[0]
        for call in (
            lambda: art.post_student(row),
            lambda: art.post_batch([row, b"["]),
            lambda: art.student("7700000001"),
            lambda: art.batch("feed"),
        ):
            for _ in range(6):
                try:
                    await call()
                except HeadraceError as error:
                    shown += [str(error), repr(error), str(error.details), str(error.__cause__)]
                tokens |= set(served.world.provider._tokens)
        assert len(shown) > 40
        return [text for text in shown if any(each in text for each in (*tokens, "Quxform", "Zyxel", "77000"))]

    faults = [
        {"every": 5, "action": "drop_after"},
        {"every": 4, "action": "status", "status": 503},
        {"every": 3, "action": "expire_tokens_now"},
    ]
    assert with_client(scenario, faults=faults) == []


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_certificates_are_checked_against_the_authority_that_is_set(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        key,
        "-out",
        certificate,
    ]
    subprocess.run([*command, *subject], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def run() -> None:
        settings = ArtSandboxSettings.model_validate({**QUICK, "https_required": True})
        async with ArtSandbox(settings, tls=context) as served:
            async with ArtClient(art_settings(served)) as art:
                with pytest.raises(CertificateRefused, match="ca_file"):
                    await art.log_in()
            for trust in ({"ca_file": certificate}, {"tls_check": False}):
                async with ArtClient(art_settings(served, **trust)) as art:
                    assert await art.post_batch(encoded(students(1)))

    asyncio.run(run())


def test_a_connection_that_is_not_answered_is_given_up_in_time():
    async def run(port: int) -> None:
        async with sandbox() as served:
            settings = art_settings(served, url=f"http://127.0.0.1:{port}/rest", timeout="0.3s")
            async with ArtClient(settings) as art:
                began = time.monotonic()
                with pytest.raises(AnswerLost, match="took too long"):
                    await art.state_exists()
                assert time.monotonic() - began < 3

    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(run(silent.getsockname()[1]))
