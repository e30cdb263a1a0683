"""The settings that are in force, without secrets, and whether what they name answers."""

from __future__ import annotations

import threading
from collections import defaultdict

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace.cli.checks import checks
from headrace.cli.config import configured_services, settings_in_force, written
from headrace.errors import TransientError
from headrace_ops.console.pages.base import Console

Row = tuple[str, str, str]


class AlreadyChecking(TransientError):
    """The connections are being tested already; look again in a moment."""

    code = "already-checking"


def routes(console: Console) -> list[Route]:
    """The routes of these pages."""
    checking = threading.Lock()

    def page(request: Request) -> Response:
        return console.render(request, "settings.html", sections=sections(), results=None)

    def check(request: Request) -> Response:
        """Connect to everything that is configured, and change nothing."""
        if not checking.acquire(blocking=False):
            raise AlreadyChecking
        try:
            results = checks(console.settings, configured_services(console.settings))
        finally:
            checking.release()
        return console.render(request, "settings.html", sections=sections(), results=results)

    def sections() -> dict[str, list[Row]]:
        """Name, value and origin of each setting, by section."""
        found: defaultdict[str, list[Row]] = defaultdict(list)
        for name, value, origin in settings_in_force(console.settings):
            section, _, setting = name.rpartition(".")
            found[section].append((setting, written(value), origin))
        return dict(found)

    return [
        Route("/settings", page),
        Route("/settings/check", check, methods=["POST"]),
    ]
