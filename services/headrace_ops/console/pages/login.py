"""Logging in with the token, and out."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from headrace_ops.console.guard import LOGIN
from headrace_ops.console.pages.base import Console, first

WAIT_AFTER_A_WRONG_TOKEN = 0.5
"""Seconds; the token is far too long to be guessed, this keeps the log of whoever tries short."""


def routes(console: Console) -> list[Route]:
    """The routes of these pages."""

    def page(request: Request) -> Response:
        if request.state.session is not None:
            return RedirectResponse("/", 303)
        return console.render(request, "login.html", wrong=False)

    async def log_in(request: Request) -> Response:
        session = console.sessions.begin(first(request.state.form, "token"))
        if session is None:
            await asyncio.sleep(WAIT_AFTER_A_WRONG_TOKEN)
            return console.render(request, "login.html", 403, wrong=True)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            console.cookie, session.name, httponly=True, samesite="strict", secure=console.secure, path="/"
        )
        return answer

    def log_out(request: Request) -> Response:
        console.sessions.end(request.state.session.name)
        answer = RedirectResponse(LOGIN, 303)
        answer.delete_cookie(console.cookie, httponly=True, samesite="strict", secure=console.secure, path="/")
        return answer

    return [
        Route(LOGIN, page),
        Route(LOGIN, log_in, methods=["POST"]),
        Route("/logout", log_out, methods=["POST"]),
    ]
