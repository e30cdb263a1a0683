"""What each answer of ART means: the table of the reference (3.2, 3.8), row by row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.errors import ConfigError, PermanentError, TransientError
from headrace_art.client.answers import TokenRefused, judge
from headrace_art.client.connection import Answer
from headrace_art.client.errors import (
    ArrayRefused,
    ArtFault,
    ArtUnwell,
    BodyTooLarge,
    FieldsRefused,
    HttpsRequired,
    PermissionMissing,
    RequestRefused,
)
from headrace_art.client.records import BatchStatus, Entity, Unexpected

SECRET = "b7e0c1f2-token"


def answer(status: int, body: Any = None, kind: str = "application/json", **headers: str) -> Answer:
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return Answer(status, headers, content, kind)


def messages(**fields: str) -> dict[str, Any]:
    return {"messages": {key: [text] for key, text in fields.items()}}


def told(text: str) -> dict[str, Any]:
    return messages(applicationErrors=text)


HTML = b"<html><body>Kim Quintanar 7700000042</body></html>"


@pytest.mark.parametrize(
    ("given", "meaning"),
    [
        (answer(202), None),
        (answer(400, messages(firstName="Kim is too long")), FieldsRefused),
        (answer(400, messages(LocalEducationAgencyIdentifier="exists")), FieldsRefused),
        (answer(400, told("bind.exception")), ArrayRefused),
        (answer(400, told("Invalid format for the field asian")), ArrayRefused),
        (answer(400, told("Error Code: 4711 - There was a problem")), ArtFault),
        (answer(400, told("The entity is referenced")), RequestRefused),
        (answer(400, HTML, "text/html"), ArtUnwell),
        (answer(400, {"error": "invalid_grant", "error_description": "expired"}), TokenRefused),
        (answer(401, {"error": "invalid_token", "error_description": SECRET}), TokenRefused),
        (answer(401, told("Access denied")), PermissionMissing),
        (answer(401, HTML, "text/html"), TokenRefused),
        (answer(302, HTML, "text/html", Location="/auth"), TokenRefused),
        (answer(200, HTML, "text/html"), TokenRefused),
        (answer(403, told("HTTPS is required")), HttpsRequired),
        (answer(404), RequestRefused),
        (answer(413, HTML, "text/html"), BodyTooLarge),
        (answer(429), ArtUnwell),
        *((answer(status, HTML, "text/html"), ArtUnwell) for status in (500, 502, 503, 504)),
    ],
)
def test_the_table_of_errors(given, meaning):
    found = judge(given, "batch_post", frozenset({202}))
    assert (found if found is None else type(found)) == meaning
    assert SECRET not in str(found)
    assert "Kim" not in str(found)


def test_only_what_passes_is_tried_again():
    kinds = {
        ArtFault: TransientError, ArtUnwell: TransientError, PermissionMissing: ConfigError, HttpsRequired: ConfigError,
        FieldsRefused: PermanentError, ArrayRefused: PermanentError, BodyTooLarge: PermanentError,
    }  # fmt: skip
    assert all(issubclass(error, base) for error, base in kinds.items())


def test_the_fields_and_the_wait_that_art_asks_for_are_known():
    refused = judge(answer(400, messages(firstName="x", sex="y")), "student_post", frozenset({201}))
    assert isinstance(refused, FieldsRefused)
    assert refused.fields == ("firstName", "sex")
    unwell = judge(answer(503, **{"Retry-After": "7"}), "batch_post", frozenset({202}))
    assert isinstance(unwell, ArtUnwell)
    assert unwell.retry_after == 7


def test_a_page_is_no_answer_where_json_is_expected():
    assert isinstance(judge(answer(200, HTML, "text/html"), "student_get", frozenset({200, 404})), TokenRefused)
    assert judge(answer(404, HTML, "text/html"), "student_get", frozenset({200, 404})) is None


def test_failures_are_counted_by_arithmetic_since_art_keeps_equal_ones_once():
    body = {
        "id": "a1", "numSubmitted": 5, "numProcessed": 5, "numSuccess": 2, "percentComplete": 1.0,
        "exceptions": [{"ssid": "1", "errorMessage": "same\n"}],
    }  # fmt: skip
    status = BatchStatus.of(body)
    assert (status.failed, len(status.failures), status.done) == (3, 1, True)
    assert not BatchStatus.of({**body, "numProcessed": 4}).done
    assert BatchStatus.of({**body, "exceptions": None, "numSubmitted": 0, "percentComplete": "NaN"}).done


@pytest.mark.parametrize("body", [[], {}, {"numSubmitted": "5"}, {"numSubmitted": True}, None, "text"])
def test_a_status_that_is_none_is_told_apart(body):
    with pytest.raises(Unexpected):
        BatchStatus.of(body)


def test_an_entity_shows_no_more_than_it_must():
    entity = Entity.of({"id": "1", "entityId": "99", "entityName": "Otter", "parentEntityId": "98", "other": SECRET})
    assert entity.record["other"] == SECRET
    assert SECRET not in repr(entity)
    with pytest.raises(Unexpected):
        Entity.of({"entityId": "99"})
