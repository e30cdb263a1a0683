"""What every request must pass, and what every answer says to the browser.

- The Host must be one of ours, so that a foreign name that resolves to this machine (DNS rebinding) gets nothing.
- Without a session there is the login page and nothing else.
- What changes something must come from our own pages: the Origin header, which a page cannot forge, and the session's
  proof, which a foreign page cannot read. The cookie is not sent with requests of other sites (SameSite=Strict).
- Scripts, styles and requests only from here, nothing inline, no framing (Content-Security-Policy).

Source: OWASP cheat sheets on cross-site request forgery prevention and content security policy; RFC 6265bis, 5.6.7.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace_ops.console.sessions import Session, Sessions

LARGEST_FORM = 64 * 1024
PROOF_FIELD = "proof"
LOGIN = "/login"
PUBLIC = ("/static/",)

POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
        "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'",
    )
)  # fmt: skip
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: browsers would then send "Origin: null" with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Form = Mapping[str, list[str]]


class TooLarge(Exception):
    """The body of a request is larger than any form of ours."""


class Guard:
    """Stands before the pages. They find `session` and `form` in the request's state.

    Parameters:
        hosts: what the Host header may say.
        scheme: by which browsers reach us, http or https.
        cookie: the name of the session's cookie.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions, hosts: frozenset[str], scheme: str, cookie: str) -> None:
        self._app = app
        self._sessions = sessions
        self._hosts = hosts
        self._scheme = scheme
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        stays = path.startswith(PUBLIC)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in HEADERS.items():
                    headers[name] = value
                headers["Cache-Control"] = "no-cache" if stays else "no-store"
                message["headers"] = headers.raw
            await send(message)

        answer = await self._refusal(scope, receive, path)
        await (answer or self._app)(scope, receive, send_with_headers)

    async def _refusal(self, scope: Scope, receive: Receive, path: str) -> Response | None:
        headers = Headers(scope=scope)
        if headers.get("host", "").lower() not in self._hosts:
            return PlainTextResponse("This console is not called so. Add the name to console.names.\n", 421)
        method = scope["method"]
        if method not in ("GET", "HEAD", "POST"):
            return PlainTextResponse("Pages are read (GET) or acted on (POST).\n", 405)
        session = self._session(headers)
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["session"] = session
        if session is None and path != LOGIN and not path.startswith(PUBLIC):
            if "hx-request" in headers:
                return Response(status_code=401, headers={"HX-Redirect": LOGIN})
            return RedirectResponse(LOGIN, 303) if method != "POST" else PlainTextResponse("Log in first.\n", 403)
        if method == "POST":
            try:
                state["form"] = parse_qs((await _body(receive)).decode("utf-8", "replace"), max_num_fields=1000)
            except (TooLarge, ValueError):
                return PlainTextResponse("That is no form of ours.\n", 413)
            if headers.get("origin") != f"{self._scheme}://{headers['host']}":
                return PlainTextResponse("This request does not come from a page of this console.\n", 403)
            if session is not None and path != LOGIN and not _has_proof(state["form"], session):
                return PlainTextResponse("This page is from an earlier login. Load it again.\n", 403)
        return None

    def _session(self, headers: Headers) -> Session | None:
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return None
        morsel = cookies.get(self._cookie)
        return None if morsel is None else self._sessions.find(morsel.value)


def _has_proof(form: Form, session: Session) -> bool:
    return secrets.compare_digest(form.get(PROOF_FIELD, [""])[0].encode(), session.proof.encode())


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        part: bytes = message.get("body", b"")
        body += part
        if len(body) > LARGEST_FORM:
            raise TooLarge
        if not message.get("more_body", False):
            return body
