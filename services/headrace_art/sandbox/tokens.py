"""The token provider (OpenAM), and what each ART node remembers of its tokens. Source: reference art 3.2."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from headrace.sandbox.counters import Counters
from headrace.sandbox.listening import Reply
from headrace_art.sandbox import replies
from headrace_art.sandbox.settings import ArtSandboxSettings


@dataclass
class Token:
    """A token that was issued."""

    user: str
    expires: float


class Provider:
    """Issues tokens and tells nodes about them."""

    def __init__(
        self, settings: Callable[[], ArtSandboxSettings], now: Callable[[], float], counters: Counters
    ) -> None:
        self._settings, self._now, self._counters = settings, now, counters
        self._tokens: dict[str, Token] = {}
        self._random = random.Random(settings().seed)  # noqa: S311 - tokens of a stand-in

    def issue(self, form: Mapping[str, str]) -> Reply:
        """Answer a request for a token."""
        settings = self._settings()
        if form.get("client_id") != settings.client_id or form.get("client_secret") != settings.client_secret:
            return _refusal("invalid_client", "Client authentication failed")
        if form.get("grant_type") != "password":
            return _refusal("unsupported_grant_type", "Grant type is not supported")
        user = form.get("username", "")
        if settings.users.get(user) != form.get("password"):
            return _refusal("invalid_grant", "The provided access grant is invalid, expired, or revoked.")
        text = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        self._tokens[text] = Token(user, self._now() + settings.token_ttl_s)
        self._counters.count("tokens_issued")
        return replies.answer(
            {
                "scope": "cn mail tenancychain",
                "expires_in": settings.token_ttl_s,
                "token_type": "Bearer",
                "refresh_token": str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
                "access_token": text,
            }
        )

    def info(self, text: str) -> Token | None:
        """What `tokeninfo` says of a token: None if it is unknown, expired or revoked."""
        self._counters.count("tokeninfo")
        token = self._tokens.get(text)
        if token is None or token.expires <= self._now() or self._settings().revoked:
            return None
        return token

    @property
    def issued(self) -> tuple[str, ...]:
        """All tokens that were given out and are remembered."""
        return tuple(self._tokens)

    def expire_all(self) -> None:
        """Let every token run out now."""
        for token in self._tokens.values():
            token.expires = self._now()

    def forget(self) -> None:
        """Issue anew from nothing."""
        self._tokens.clear()


class TokenMemory:
    """One node's view of tokens: kept until they expire as the provider said when it was asked."""

    def __init__(self, node: int, provider: Provider, settings: Callable[[], ArtSandboxSettings]) -> None:
        self._node, self._provider, self._settings = node, provider, settings
        self._known: dict[str, Token] = {}

    def check(self, authorization: str | None, now: float) -> str | Reply:
        """The user of a request, or the answer that refuses it."""
        scheme, _, text = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not text:
            return replies.login_redirect()
        token = self._known.get(text)
        if token is None:
            token = self._provider.info(text)
            if token is None:
                return replies.unknown_token(text)
            self._known[text] = token
        if token.expires <= now:
            if self._expired_mode() == "cached":
                return replies.expired_token()
            del self._known[text]
            return replies.unknown_token(text)
        return token.user

    def forget(self) -> None:
        """Start with an empty memory."""
        self._known.clear()

    def _expired_mode(self) -> Literal["cached", "purged"]:
        mode = self._settings().expired_mode
        if mode == "mixed":
            return "purged" if self._node % 2 else "cached"
        return mode


def _refusal(error: str, description: str) -> Reply:
    return replies.answer({"error": error, "error_description": description}, 400)
