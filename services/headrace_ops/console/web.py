"""The web application: pages behind the guard."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from headrace.errors import HeadraceError
from headrace_ops.console.guard import Guard
from headrace_ops.console.pages import dead_letters, files, jobs, login, settings, tasks, topology
from headrace_ops.console.pages.base import Console

STATIC = Path(__file__).parent / "static"


def application(console: Console, hosts: frozenset[str]) -> ASGIApp:
    """All pages.

    Parameters:
        hosts: what the Host header may say, with the port where it is not the usual one.
    """
    connections = settings.Connections(console)

    async def not_there(request: Request, _error: Exception) -> Response:
        return console.missing(request)

    async def failed(request: Request, error: Exception) -> Response:
        return console.failed(request, error)

    pages = Starlette(
        routes=[
            *login.routes(console),
            *topology.routes(console),
            *jobs.routes(console),
            *dead_letters.routes(console),
            *files.routes(console),
            *settings.routes(console, connections),
            *tasks.routes(console, connections),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        exception_handlers={HTTPException: not_there, HeadraceError: failed, Exception: failed},
    )
    scheme = "https" if console.secure else "http"
    return Guard(pages, console.sessions, hosts, scheme, console.cookie)
