"""Jobs and their books."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace.events import Books
from headrace.jobs.assessment import FINAL
from headrace.jobs.log import Known
from headrace_ops.console.pages.base import Console, page_for
from headrace_ops.console.remembered import started

JOBS_SHOWN = 200


def routes(console: Console) -> list[Route]:
    """The routes of these pages."""

    def listed() -> dict[str, Any]:
        with console.watch.lock:
            newest = console.watch.jobs.newest()
        return {"jobs": [(job, known, started(known)) for job, known in newest[:JOBS_SHOWN]], "all": len(newest)}

    def page(request: Request) -> Response:
        return console.render(request, "jobs.html", **listed())

    def live(request: Request) -> Response:
        return console.render(request, "jobs_live.html", **listed())

    def one(request: Request) -> Response:
        template = "job_live.html" if request.url.path.endswith("/live") else "job.html"
        name = request.path_params["job"]
        with console.watch.lock:
            known = console.watch.jobs.get(name)
        if known is None:
            return console.missing(request, "No such job is remembered here.")
        wanted = known.wanted
        page = None if wanted is None else page_for(wanted.kind)
        open_ = known.job is None or known.job.state not in FINAL
        return console.render(
            request, template, job=name, known=known, rows=rows(known), begun=started(known),
            may_stop=open_ and wanted is not None and wanted.desired != "stop",
            job_actions=() if page is None else page.job_actions,
        )  # fmt: skip

    return [
        Route("/jobs", page),
        Route("/jobs/live", live),
        Route("/jobs/{job}", one),
        Route("/jobs/{job}/live", one),
    ]


def accounted(book: Books) -> int:
    """All that a group has accounted for."""
    return book.delivered + book.unchanged + book.dead_lettered + book.held + book.failed


def rows(known: Known) -> list[tuple[Books, int]]:
    """The books of a job, with the sum of each."""
    return [(book, accounted(book)) for book in (known.job.books if known.job is not None else ())]
