"""The settings that are in force, without secrets; whether what they name answers; and changing them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from headrace.checks import Check
from headrace.cli.checks import checks
from headrace.cli.config import configured_services
from headrace.config.errors import UnknownSection
from headrace.errors import TransientError
from headrace.families import sections, stage_named
from headrace_ops.console.guard import Form
from headrace_ops.console.pages.base import Console, first

START = "set."
"""Begins the names of the fields that settings are in, which are the user's own words."""


class AlreadyChecking(TransientError):
    """The connections are being tested already; look again in a moment."""

    code = "already-checking"


class Connections:
    """Tests connections, for one page at a time."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()

    def test(self, names: Sequence[str] | None = None) -> list[Check]:
        """Connect to what is configured, or to what these sections need besides Kafka, and change nothing.

        Raises AlreadyChecking.
        """
        if not self._lock.acquire(blocking=False):
            raise AlreadyChecking
        try:
            session = self._console.settings.session()
            known = sections()
            if names is None:
                return checks(session, configured_services(session))
            return checks(session, [(name, known[name] if name in known else stage_named(name)) for name in names])
        finally:
            self._lock.release()


def routes(console: Console, connections: Connections) -> list[Route]:
    """The routes of these pages."""

    def page(request: Request) -> Response:
        return shown(request, None)

    def check(request: Request) -> Response:
        return shown(request, connections.test())

    def shown(request: Request, results: list[Check] | None) -> Response:
        found = [console.settings.shown(name) for name in console.settings.names()]
        plain = [each.name for each in found if not each.told and not each.problem]
        return console.render(
            request, "settings.html", sections=[each for each in found if each.name not in plain],
            others=sorted([*plain, *console.settings.others()]), results=results,
            file=(file := console.settings.path()), there=file.exists(),
        )  # fmt: skip

    def edit(request: Request) -> Response:
        name = known(request)
        return console.render(
            request, "setting.html", form=console.settings.form(name), start=START,
            saved="saved" in request.query_params,
        )  # fmt: skip

    def save(request: Request) -> Response:
        name, form = known(request), request.state.form
        kept = console.settings.save(name, said(form), first(form, "mark"))
        if kept.well:
            return RedirectResponse(f"/settings/{quote(name)}?saved", 303)
        return console.render(request, "setting.html", 400, form=kept, start=START, saved=False)

    def known(request: Request) -> str:
        name: str = request.path_params["section"]
        valid = [*console.settings.names(), *console.settings.others()]
        if name not in valid:
            raise UnknownSection(section=name, where="address", valid=", ".join(valid))
        return name

    return [
        Route("/settings", page),
        Route("/settings/check", check, methods=["POST"]),
        Route("/settings/{section}", edit),
        Route("/settings/{section}", save, methods=["POST"]),
    ]


def said(form: Form) -> dict[str, str]:
    """What a person wrote, by setting; a field that was left empty is not there."""
    return {name.removeprefix(START): values[0] for name, values in form.items() if name.startswith(START)}
