"""What all pages share: the console that they show, and how they are made."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import HTMLResponse

from headrace import __version__
from headrace.errors import ConfigError, HeadraceError, TransientError
from headrace.families import pages
from headrace.kafka.clients import Cluster
from headrace.pages import Page
from headrace.proof.groups import of_datasets_only, takers_of_others
from headrace.topics import Topic
from headrace_ops.console.guard import PROOF_FIELD, Form
from headrace_ops.console.redriving import Busy, Redriving
from headrace_ops.console.rendering import environment
from headrace_ops.console.runs import Runs
from headrace_ops.console.sessions import Sessions
from headrace_ops.console.settings_view import SettingsNow
from headrace_ops.console.watch import Watch


@dataclass(frozen=True)
class Console:
    """Everything that pages are made from.

    `state` is this machine's folder; `reading` is held by whoever reads the log for a page: one at a time.
    """

    cluster: Cluster
    topics: Sequence[Topic]
    watch: Watch
    redriving: Redriving
    sessions: Sessions
    cookie: str
    secure: bool
    settings: SettingsNow
    runs: Runs
    state: Path
    templates: Environment = field(default_factory=environment)
    reading: threading.Lock = field(default_factory=threading.Lock)

    def render(self, request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page, or a part of one that renews itself."""
        session = request.state.session
        text = self.templates.get_template(template).render(
            path=request.url.path,
            session=session,
            family_pages=pages(),
            proof_field=PROOF_FIELD,
            prefix=self.cluster.settings.prefix,
            version=__version__,
            problem=self.watch.problem,
            caught_up=self.watch.caught_up,
            **values,
        )
        return HTMLResponse(text, status)

    @contextmanager
    def reading_the_log(self) -> Iterator[None]:
        """Hold the right to read much of the log.

        Raises Busy while somebody else does.
        """
        if not self.reading.acquire(blocking=False):
            raise Busy
        try:
            yield
        finally:
            self.reading.release()

    def of_datasets(self, groups: Iterable[str]) -> frozenset[str]:
        """Those of some groups that must have only files that name a dataset."""
        try:
            others = takers_of_others(self.settings.sources())
        except ConfigError:
            others = frozenset()
        return of_datasets_only(groups, self.cluster.settings.prefix, others)

    def failed(self, request: Request, error: Exception) -> HTMLResponse:
        """The page for what went wrong; a part of a page gets its message alone."""
        status = 400 if isinstance(error, ConfigError) else 503 if isinstance(error, TransientError) else 500
        message = str(error) if isinstance(error, HeadraceError) else "Something went wrong; see the console's log."
        return self.render(request, "error.html", status, title="That did not work", message=message)

    def missing(self, request: Request, message: str = "There is no such page.") -> HTMLResponse:
        """The page for what is not there."""
        return self.render(request, "error.html", 404, title="Not found", message=message)


def first(form: Form, name: str) -> str:
    """The value of a field, empty if it has none."""
    return form.get(name, [""])[0]


def page_for(kind: str) -> Page | None:
    """The page of a family that jobs of this kind belong to."""
    found = (entry.load_page() for entry in pages().values())
    return next((page for page in found if kind in page.kinds), None)
