"""Tokens: had when needed, renewed before they run out, and never twice at once. Source: reference art 3.2, R10."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson

from headrace_art.client.connection import Answer
from headrace_art.client.errors import AnswerLost, ArtUnreachable, CredentialsRefused, ProviderUnwell
from headrace_art.client.settings import ArtSettings
from headrace_art.client.timing import Time
from headrace_art.client.transport import Transport

_IN_A_HEADER = re.compile(r"[!-~]+").fullmatch

RENEW_AT = 0.8
"""Share of a token's life after which it is renewed."""


@dataclass(frozen=True)
class Token:
    """A token, and when to renew it. Its text is shown nowhere."""

    text: str
    renew_at: float

    def __repr__(self) -> str:
        return f"Token(renew_at={self.renew_at})"


class TokenManager:
    """Gives the token to use.

    However many ask at once, one request goes to the provider. A token that ART refuses is renewed once for all who
    had used it.
    """

    def __init__(self, transport: Transport, settings: ArtSettings, time: Time) -> None:
        self._transport, self._settings, self._time = transport, settings, time
        self._token: Token | None = None
        self._one = asyncio.Lock()

    async def token(self) -> Token:
        """A token that is good for a while.

        Raises CredentialsRefused, ProviderUnwell.
        """
        token = self._token
        if token is not None and self._time.now() < token.renew_at:
            return token
        async with self._one:
            if self._token is None or self._time.now() >= self._token.renew_at:
                self._token = await self._request()
            return self._token

    def refused(self, token: Token) -> None:
        """ART did not take this one; the next who asks gets another."""
        if self._token is token:
            self._token = None

    async def _request(self) -> Token:
        settings = self._settings
        form = {
            "grant_type": "password",
            "username": settings.username,
            "password": settings.password.get_secret_value(),
            "client_id": settings.client_id,
            "client_secret": settings.client_secret.get_secret_value(),
        }
        if settings.scope is not None:
            form["scope"] = settings.scope
        address = urlsplit(settings.token_url).netloc.rpartition("@")[2]
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        asked = self._time.now()
        try:
            answer = await self._transport.send(
                "POST", settings.token_url, headers, urlencode(form).encode(), settings.timeout.total_seconds()
            )
        except (ArtUnreachable, AnswerLost) as error:
            raise ProviderUnwell(address=address, problem=error.details["problem"]) from error
        body = _body(answer)
        if answer.status in (400, 401) and isinstance(body.get("error"), str):
            raise CredentialsRefused(address=address, error=_word(body["error"]))
        text = body.get("access_token")
        if answer.status != 200 or not isinstance(text, str) or not _IN_A_HEADER(text):
            raise ProviderUnwell(address=address, problem=f"status {answer.status} without a token")
        life = body.get("expires_in")
        # What remains may be short. Without it nothing is assumed: ART tells when the token has run out.
        renew_at = asked + float(life) * RENEW_AT if isinstance(life, int | float) else float("inf")
        return Token(text, renew_at)


def _body(answer: Answer) -> dict[str, Any]:
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _word(text: str) -> str:
    """An error code as OAuth has them, such as `invalid_client`; anything longer might repeat what was sent."""
    return text if len(text) <= 40 and text.replace("_", "").isalpha() else "an error that is no OAuth code"
