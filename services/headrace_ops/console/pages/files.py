"""One file's way through the stages: found by name, told from what is remembered, and checked against the log."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from headrace.proof.books import Account
from headrace.proof.evidence import FILE_ID_BYTES
from headrace.proof.log import Name
from headrace.proof.verify import Outcome, Verification
from headrace_ops.console.pages.base import Console, first

SHOWN = 100
LONGEST_NAME = 4096


def routes(console: Console) -> list[Route]:
    """The routes of these pages."""

    def remembered_accounts(files: Sequence[bytes]) -> dict[bytes, Account]:
        positions = console.watch.chunk_positions()
        return console.watch.files.accounts(files, positions, console.of_datasets(positions))

    def search(request: Request) -> Response:
        name = request.query_params.get("name", "").strip()[:LONGEST_NAME]
        with console.watch.lock:
            found = console.watch.files.search(name.encode("utf-8", "replace"), SHOWN)
            remembered = len(console.watch.files)
            accounts = remembered_accounts([sent.file for sent in found])
        hits = [accounts[sent.file] for sent in found]
        return console.render(
            request, "files.html", name=name, hits=hits, most=SHOWN, remembered=remembered, verdict=verdict
        )

    def one(request: Request) -> Response:
        file = file_named(request.path_params["file"])
        if file is None:
            return console.missing(request, "A file is named by its id, 32 hexadecimal digits.")
        with console.watch.lock:
            account = remembered_accounts([file]).get(file)
            sent = None if account is None else account.sent
            versions = [] if sent is None else console.watch.files.versions_of(sent.path_id)
        return console.render(
            request, "file.html", 200 if account else 404, file=file, account=account, verdict=verdict,
            versions=[each for each in versions if each.file != file],
        )  # fmt: skip

    def check(request: Request) -> Response:
        """Read the log again: for a file that is remembered only its partition, else all of it."""
        text = first(request.state.form, "name").strip()[:LONGEST_NAME]
        if not text:
            return RedirectResponse("/files", 303)
        file = file_named(text)
        sent = None
        if file is not None:
            with console.watch.lock:
                account = console.watch.files.accounts([file], {}).get(file)
                sent = None if account is None else account.sent
        name = Name(text.encode("utf-8", "surrogateescape")) if sent is None else Name(sent.path, sent.source)
        outcome = Outcome()
        settings = console.settings.sources()
        with console.reading_the_log():
            drawn = (account for account, _ in Verification(console.cluster, name=name, sources=settings).run(outcome))
            found: list[Account] = list(islice((each for each in drawn if file in (None, each.file)), SHOWN))
        return console.render(request, "checked.html", accounts=found, name=text, verdict=verdict)

    return [
        Route("/files", search),
        Route("/files/check", check, methods=["POST"]),
        Route("/files/{file}", one),
    ]


def file_named(text: str) -> bytes | None:
    """The file id in a text, if it is one."""
    try:
        file = bytes.fromhex(text)
    except ValueError:
        return None
    return file if len(file) == FILE_ID_BYTES else None


def verdict(account: Account) -> str:
    """How a version stands, in a word: the worst that any group says."""
    if not account.entries:
        return "unread"
    for status in ("failed", "missing", "dead_lettered", "held", "open"):
        if any(entry.status == status and entry.settled_by is None for entry in account.entries.values()):
            return status
    return "delivered"
