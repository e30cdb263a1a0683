"""The pages that families offer: their fields and buttons, and the commands that these run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from headrace.families import pages
from headrace.jobs.commands import stop_command
from headrace.jobs.ids import check_job_id
from headrace.jobs.log import JobWriter, read_jobs
from headrace.pages import Action, Page, arguments, defaults, problems
from headrace_ops.console.guard import Form
from headrace_ops.console.output import tail
from headrace_ops.console.pages.base import Console, first, page_for
from headrace_ops.console.pages.jobs import rows
from headrace_ops.console.pages.settings import Connections
from headrace_ops.console.remembered import started
from headrace_ops.console.runs import Run

JOBS_SHOWN = 10
LOG_WHILE_RUNNING, LOG_AFTER = 25, 200
START = "with"
"""Begins the names of the fields that options are in."""
NO_MORE = 286
"""Tells htmx to stop asking. Source: htmx, "Polling"."""
MEANING = {
    0: ("good", "done: everything is delivered, or was there"),
    1: ("bad", "something failed"),
    2: ("bad", "it could not begin: wrong settings or options"),
    3: ("bad", "done, but not all is delivered: some is put aside"),
    4: ("", "left: it can be started again, and goes on"),
}


def routes(console: Console, connections: Connections) -> list[Route]:
    """The routes of these pages."""

    def page_of(request: Request) -> Page | None:
        entry = pages().get(request.path_params["page"])
        return None if entry is None else entry.load_page()

    def shown(request: Request, page: Page, status: int = 200, **more: Any) -> Response:
        values = {
            "values": defaults(page, datetime.now().astimezone().date()), "wrong": {}, "results": None, "start": START,
        }  # fmt: skip
        with console.watch.lock:
            newest = console.watch.jobs.newest()
        mine = [(job, known) for job, known in newest if (known.job or known.wanted).kind in page.kinds]  # type: ignore[union-attr]
        return console.render(
            request, "task.html", status, page=page, name=request.path_params["page"],
            sections=[console.settings.shown(name) for name in page.sections],
            jobs=[(job, known, started(known)) for job, known in mine[:JOBS_SHOWN]],
            runs=[run for run in console.runs.newest() if run.exit_code is None], **{**values, **more},
        )  # fmt: skip

    def one(request: Request) -> Response:
        page = page_of(request)
        return console.missing(request) if page is None else shown(request, page)

    def check(request: Request) -> Response:
        page = page_of(request)
        if page is None:
            return console.missing(request)
        return shown(request, page, results=connections.test(page.sections))

    def act(request: Request) -> Response:
        page, form = page_of(request), request.state.form
        action = None if page is None else _named(page.actions, first(form, "action"))
        if page is None or action is None:
            return console.missing(request)
        values = given(page, form)
        if wrong := problems(page, values):
            return shown(request, page, 400, values=values, wrong=wrong)
        job = check_job_id(page.job(console.settings.sources(), values)) if action.under_job else None
        run = start(page, action, values, job)
        return RedirectResponse(f"/runs/{run.name}", 303)

    def act_on_job(request: Request) -> Response:
        job, wanted = request.path_params["job"], first(request.state.form, "action")
        with console.watch.lock:
            known = console.watch.jobs.get(job)
        page = None if known is None else page_for(known.wanted.kind if known.wanted else "")
        action = None if page is None else _named(page.job_actions, wanted)
        if page is None or action is None:
            return console.missing(request, "That cannot be done with this job.")
        run = start(page, action, {}, check_job_id(job))
        return RedirectResponse(f"/runs/{run.name}", 303)

    def start(page: Page, action: Action, values: Mapping[str, str], job: str | None) -> Run:
        options = page.options if action in page.actions else ()
        title = f"{action.label}: {job}" if job else f"{page.title}: {action.label.lower()}"
        return console.runs.start(
            title, lambda files: arguments(options, action, values, str(files), job or ""), job=job,
            begins_job=action in page.actions and job is not None, caution=action.caution,
        )  # fmt: skip

    def stop_job(request: Request) -> Response:
        job = check_job_id(request.path_params["job"])
        stop_on_log(job)
        for run in console.runs.newest():
            if run.job == job:
                console.runs.stop(run)
        return RedirectResponse(f"/jobs/{job}", 303)

    def stop_on_log(job: str, *, must_be_there: bool = True) -> None:
        """As `headrace jobs stop` does it."""
        known = read_jobs(console.cluster, job).get(job)
        if known is not None or must_be_there:
            JobWriter(console.cluster).write(stop_command(job, known))

    def run_of(request: Request) -> Run | None:
        return console.runs.get(request.path_params["run"])

    def run(request: Request) -> Response:
        found = run_of(request)
        if found is None:
            return console.missing(request, "This console remembers no such command; jobs are among the jobs.")
        live = request.url.path.endswith("/live")
        output, code = found.look(), found.exit_code
        page = None
        known = None
        if found.job is not None:
            with console.watch.lock:
                known = console.watch.jobs.get(found.job)
            page = page_for(known.wanted.kind) if known is not None and known.wanted is not None else None
        answer = console.render(
            request, "run_live.html" if live else "run.html", NO_MORE if live and code is not None else 200,
            run=found, output=output, code=code, meaning=MEANING.get(code or 0, ("bad", "it was ended by force")),
            said=list(map(found.without_folder, output.said)),
            log=list(map(found.without_folder, output.log))[-(LOG_WHILE_RUNNING if code is None else LOG_AFTER) :],
            services=tail(console.state / "jobs" / f"{found.job}.log", LOG_WHILE_RUNNING) if found.begins_job else [],
            files=found.files(), known=known, rows=rows(known) if known is not None else [],
            job_actions=page.job_actions if page is not None and not found.caution else (),
        )  # fmt: skip
        if live and code is not None:
            # What can be done with it now is not in the part that renews itself.
            answer.headers["HX-Refresh"] = "true"
        return answer

    def stop(request: Request) -> Response:
        found = run_of(request)
        if found is None:
            return console.missing(request)
        # Both: one that has not begun its job yet is not told by the log, one that waits for another only by that.
        if found.job is not None and found.begins_job:
            stop_on_log(found.job, must_be_there=False)
        console.runs.stop(found)
        return RedirectResponse(f"/runs/{found.name}", 303)

    def file(request: Request) -> Response:
        found, name = run_of(request), request.path_params["file"]
        if found is None or name not in [each for each, _ in found.files()]:
            return console.missing(request, "There is no such file.")
        return FileResponse(found.files_folder / name, filename=name, media_type="application/octet-stream")

    return [
        Route("/tasks/{page}", one),
        Route("/tasks/{page}/check", check, methods=["POST"]),
        Route("/tasks/{page}", act, methods=["POST"]),
        Route("/jobs/{job}/stop", stop_job, methods=["POST"]),
        Route("/jobs/{job}/act", act_on_job, methods=["POST"]),
        Route("/runs/{run}", run),
        Route("/runs/{run}/live", run),
        Route("/runs/{run}/stop", stop, methods=["POST"]),
        Route("/runs/{run}/files/{file}", file),
    ]


def given(page: Page, form: Form) -> dict[str, str]:
    """What stands in the fields, by the option's name."""
    found = {option.name: first(form, START + option.name).strip() for option in page.options}
    return {name: value for name, value in found.items() if value}


def _named(actions: Any, name: str) -> Action | None:
    return next((action for action in actions if action.name == name), None)
