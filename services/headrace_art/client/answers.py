"""What an answer of ART means: nothing but a table. Source: reference art 3.2, 3.8."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Any

import orjson

from headrace.errors import HeadraceError
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

_ERROR_NUMBER = re.compile(r"Error Code: (\d+)")
_ARRAY_MARKS = ("bind.exception", "invalid format")
_LONGEST_RETRY_AFTER = 600.0

PERMISSIONS: Mapping[str, str] = {
    "batch_post": "Student Modify and Student Upload",
    "batch_status": "Student Read",
    "student_get": "Student Read",
    "student_post": "Student Modify",
    "student_delete": "Student Modify",
    "batch_delete": "Student Modify",
    "entity_read": "Entity Read",
    "entity_modify": "Entity Modify",
}
"""What each endpoint of the client needs."""


class TokenRefused(Exception):
    """The answer asks for another token."""


def judge(answer: Answer, endpoint: str, expected: Container[int]) -> HeadraceError | TokenRefused | None:
    """What is wrong with an answer; None if it is one of those that are expected.

    Parameters:
        endpoint: a name for messages, and for what permission it needs.
        expected: statuses that mean it worked.
    """
    status, is_page = answer.status, answer.kind == "text/html"
    if status in expected and not (is_page and status == 200):
        return None
    if 300 <= status < 400 or status == 200:
        return TokenRefused()  # the login page, or the way to it
    body = _object(answer)
    if status in (400, 401) and isinstance(body.get("error"), str):
        return TokenRefused()
    if status == 401:
        # With ART's envelope the token is good and a permission is missing: another token would not help.
        return _permission(endpoint) if "messages" in body else TokenRefused()
    if status == 403:
        return HttpsRequired(endpoint=endpoint)
    if status == 413:
        return BodyTooLarge(endpoint=endpoint)
    if status >= 500 or status in (408, 425, 429):
        return ArtUnwell(status=status, endpoint=endpoint, **_retry_after(answer))
    if status == 400:
        return _bad_request(body, endpoint)
    return RequestRefused(endpoint=endpoint, status=status)


def _bad_request(body: Mapping[str, Any], endpoint: str) -> HeadraceError:
    """400 may be our fault, ART's fault, or a fault of one element."""
    messages = body.get("messages")
    if not isinstance(messages, dict):
        return ArtUnwell(status=400, endpoint=endpoint)  # not ART's: the proxy's or the container's
    fields = tuple(str(key) for key in messages if key != "applicationErrors")
    if fields:
        return FieldsRefused(fields=fields, endpoint=endpoint)
    text = " ".join(str(each) for each in messages.get("applicationErrors") or ())
    if (number := _ERROR_NUMBER.search(text)) is not None:
        return ArtFault(endpoint=endpoint, number=number[1])
    if any(mark in text.lower() for mark in _ARRAY_MARKS):
        return ArrayRefused(endpoint=endpoint)
    return RequestRefused(endpoint=endpoint, status=400)


def _permission(endpoint: str) -> PermissionMissing:
    return PermissionMissing(endpoint=endpoint, permissions=PERMISSIONS.get(endpoint, "of a loader"))


def _object(answer: Answer) -> Mapping[str, Any]:
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _retry_after(answer: Answer) -> dict[str, float]:
    """What the answer asks for, if it is a number of seconds."""
    text = answer.headers.get("Retry-After", "")
    return {"retry_after": min(float(text), _LONGEST_RETRY_AFTER)} if text.isdecimal() and text.isascii() else {}
