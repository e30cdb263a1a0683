"""The bodies that ART, its token provider and the proxy in front answer with. Source: reference art 3.2, 3.8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from headrace.sandbox.listening import Reply

_LOGIN_PAGE = b"<html><body><form action='/auth/UI/Login' method='post'><input name='IDToken1'/></form></body></html>"


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """JSON, indented as ART does."""
    return Reply(status, orjson.dumps(value, option=orjson.OPT_INDENT_2), headers=headers or {})


def empty(status: int, headers: Mapping[str, str] | None = None) -> Reply:
    """No body."""
    return Reply(status, headers=headers or {})


def envelope(status: int, messages: Mapping[str, Sequence[str]]) -> Reply:
    """ART's own errors."""
    return answer({"messages": messages}, status)


def application_error(status: int, text: str) -> Reply:
    """An error that belongs to no field."""
    return envelope(status, {"applicationErrors": [text]})


def generic(number: int) -> Reply:
    """Whatever went wrong inside: ART answers 400 with a random number for the search in its log."""
    return application_error(400, f"Error Code: {number} - There was a problem processing your request.")


def bind_exception() -> Reply:
    """The body is no JSON, or has a bad date."""
    return application_error(400, "bind.exception")


def wrong_type(path: str) -> Reply:
    """A value has the wrong JSON type."""
    return application_error(400, f"Invalid format for the field {path}")


def html(status: int) -> Reply:
    """What a proxy or the container says."""
    return Reply(status, f"<html><body><h1>{status}</h1></body></html>".encode(), "text/html")


def login_redirect() -> Reply:
    """Without an Authorization header the request falls to single sign-on."""
    return Reply(302, _LOGIN_PAGE, "text/html", {"Location": "/auth/UI/Login?goto=rest"})


def login_page() -> Reply:
    """Where the redirect leads."""
    return Reply(200, _LOGIN_PAGE, "text/html")


def unknown_token(token: str) -> Reply:
    """Unknown, never valid, or the provider cannot be asked. The description is the token itself."""
    challenge = 'Bearer realm="oauth2", error="invalid_token"'
    return answer({"error": "invalid_token", "error_description": token}, 401, {"WWW-Authenticate": challenge})


def expired_token() -> Reply:
    """Known to this node, and expired meanwhile."""
    body = {"error": "invalid_grant", "error_description": "The access token expired"}
    return answer(body, 400, {"WWW-Authenticate": 'Bearer realm="oauth2"'})


def forced(status: int, body: str) -> Reply:
    """The answer of a fault."""
    if body == "html":
        return html(status)
    if body == "oauth":
        return answer({"error": "invalid_request", "error_description": "a fault of the plan"}, status)
    if body == "envelope":
        return application_error(status, "a fault of the plan")
    return empty(status)
