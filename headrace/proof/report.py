"""What a verification tells people and programs.

People get the files while they are few, the books per group, what is wrong, and a last line that says it all.
Programs get JSON lines: one object per file version, then one summary.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.proof.books import STATUSES, Account, Entry, Status
from headrace.proof.destinations import Check
from headrace.proof.totals import Book
from headrace.proof.verify import Checks, Outcome

FILES_SHOWN = 30
WRONG_SHOWN = 100

_STYLES = {"delivered": "green", "unchanged": "green", "open": "yellow", "dead_lettered": "magenta", "held": "magenta"}


class Report(Protocol):
    """Takes every account as it comes, then the end."""

    def take(self, account: Account, checks: Checks) -> None:
        """One version of a file."""

    def end(self, outcome: Outcome) -> None:
        """The sums and the verdict."""


def printable(raw: bytes) -> str:
    """A name from the network as text that cannot steer a terminal; what is no text stands as an escape."""
    text = raw.decode("utf-8", "backslashreplace")
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def size_text(size: int) -> str:
    """A number of bytes for people, in decimal units."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def verdict(outcome: Outcome) -> str:
    """The last line: what the exit code means here."""
    totals = outcome.totals
    if not totals.versions and not totals.stray_dead_letters:
        return "Nothing to verify: no such file is on the log."
    versions = f"{totals.versions:,} file version{'s' if totals.versions != 1 else ''} ({size_text(totals.sent_bytes)})"
    if totals.versions and totals.unreceived == totals.versions:
        return f"Not balanced: no group has read any of {versions} yet."
    wrong: tuple[tuple[Status, str], ...] = (("failed", "failed"), ("missing", "missing"), ("open", "still open"))
    settled = sum(book.settled.total() for book in totals.books.values())
    groups = f"{len(totals.books)} group{'s' if len(totals.books) != 1 else ''}"
    if totals.bad:
        counts = [(name, sum(book.left(status) for book in totals.books.values())) for status, name in wrong]
        counts.append(("read by no group", totals.unreceived))
        told = ", ".join(f"{count:,} {name}" for name, count in counts if count)
        line = f"Not balanced: {told} of {versions} in {groups}"
    elif totals.put_aside:
        line = f"Balanced, with {totals.put_aside:,} dead-lettered or held: {versions} in {groups}"
    else:
        line = f"Balanced: {versions} accounted for in {groups}"
    if settled:
        line += f"; {settled:,} settled by a later attempt"
    if outcome.lost:
        line = f"Lost at the destination: {outcome.lost:,}. " + line
    return line + "."


def notes(outcome: Outcome) -> Iterator[str]:
    """What a reader should know beside the sums."""
    totals = outcome.totals
    if totals.unannounced:
        yield f"{totals.unannounced:,} received that no source has announced."
    if totals.stray_dead_letters:
        yield f"{totals.stray_dead_letters:,} dead-lettered messages belong to no known file."
    if outcome.without_position:
        groups = ", ".join(outcome.without_position)
        yield f"No committed position of {groups}: if it is gone for good, choose the others with --sink."
    if outcome.undecodable:
        yield f"{outcome.undecodable:,} messages could not be decoded and are not counted."
    if outcome.findings:
        found = ", ".join(f"{count:,} {finding}" for finding, count in sorted(outcome.findings.items()))
        yield f"Destinations read again: {found}."


class JsonReport:
    """JSON lines: an object per version with `"kind": "file"`, then one with `"kind": "summary"`."""

    def __init__(self, write: Any) -> None:
        self._write = write

    def take(self, account: Account, checks: Checks) -> None:
        """One version of a file."""
        self._line(file_object(account, checks))

    def end(self, outcome: Outcome) -> None:
        """The sums and the verdict."""
        self._line(summary_object(outcome))

    def _line(self, value: dict[str, Any]) -> None:
        self._write(orjson.dumps(value).decode() + "\n")


def file_object(account: Account, checks: Checks) -> dict[str, Any]:
    """One version as JSON. `path` shows escapes where the name is no text; then `path_base64` holds its bytes."""
    sent = account.sent
    result: dict[str, Any] = {"kind": "file", "file": account.file.hex(), "good": account.good}
    if sent is not None:
        result |= {
            "source": sent.source,
            "path": sent.path.decode("utf-8", "backslashreplace"),
            "state": sent.state,
            "attempt": sent.attempt,
            "size": sent.size,
            "mtime_ns": sent.mtime_ns,
            "alg": sent.alg,
            "hash": sent.hash.hex() if sent.hash else None,
            "reason": sent.reason,
            "at": _time(sent.at),
        }
        try:
            sent.path.decode("utf-8")
        except UnicodeDecodeError:
            result["path_base64"] = base64.b64encode(sent.path).decode()
    result["groups"] = {group: _entry_object(entry, checks.get(group)) for group, entry in account.entries.items()}
    return result


def _entry_object(entry: Entry, found: Check | None) -> dict[str, Any]:
    result: dict[str, Any] = {"status": entry.status, "good": entry.good, "code": entry.code}
    if entry.received is not None:
        result |= {
            "where": entry.received.where,
            "hashes_equal": entry.hashes_equal,
            "size": entry.received.size,
            "hash": entry.received.hash.hex() if entry.received.hash else None,
            "etag": entry.received.etag,
            "version": entry.received.version,
            "at": _time(entry.received.at),
        }
    if entry.settled_by is not None:
        result["settled_by"] = entry.settled_by.hex()
    if entry.dead_messages:
        result["dead_messages"] = entry.dead_messages
    if found is not None:
        result["destination"] = found.finding
        result["destination_reason"] = found.reason
    return result


def summary_object(outcome: Outcome) -> dict[str, Any]:
    """The sums as JSON; for every group sent is the sum of the outcomes."""
    totals = outcome.totals
    return {
        "kind": "summary",
        "exit_code": outcome.exit_code,
        "verdict": verdict(outcome),
        "versions": totals.versions,
        "bytes": totals.sent_bytes,
        "groups": {group: _book_object(book) for group, book in sorted(totals.books.items())},
        "unannounced": totals.unannounced,
        "stray_dead_letters": totals.stray_dead_letters,
        "undecodable": outcome.undecodable,
        "destinations": outcome.findings,
        "notes": list(notes(outcome)),
    }


def _book_object(book: Book) -> dict[str, Any]:
    counts: dict[str, Any] = {status: book.counts[status] for status in STATUSES}
    return {"sent": book.sent} | counts | {"settled": book.settled.total(), "delivered_bytes": book.delivered_bytes}


class TextReport:
    """Tables for people; `prefix` is left away from the names of groups."""

    def __init__(self, console: Console, prefix: str, *, every_file: bool = False) -> None:
        self._console = console
        self._prefix = prefix
        self._few: list[tuple[Account, Checks]] | None = []
        self._wrong: list[tuple[Account, Checks]] = []
        self._wrong_left = 0
        self._limit = None if every_file else FILES_SHOWN

    def take(self, account: Account, checks: Checks) -> None:
        """One version of a file."""
        if self._few is not None:
            self._few.append((account, checks))
            if self._limit is not None and len(self._few) > self._limit:
                self._few = None
        if not account.good or any(found.bad for found in checks.values()):
            if len(self._wrong) < WRONG_SHOWN:
                self._wrong.append((account, checks))
            else:
                self._wrong_left += 1

    def end(self, outcome: Outcome) -> None:
        """The sums and the verdict."""
        if self._few:
            self._console.print(self._files("Files", self._few))
        elif self._wrong:
            self._console.print(self._files("Not delivered", self._wrong))
            if self._wrong_left:
                self._console.print(f"… and {self._wrong_left:,} more; all of them with --json.")
        if outcome.totals.books:
            self._console.print(self._books(outcome))
        for note in notes(outcome):
            self._console.print(Text("· " + note))
        style = {0: "bold green", 3: "bold magenta"}.get(outcome.exit_code, "bold red")
        self._console.print(Text(verdict(outcome), style=style))

    def _files(self, title: str, found: list[tuple[Account, Checks]]) -> Table:
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for column in ("File", "Sent", "Group", "Outcome", "Where"):
            table.add_column(column, overflow="fold")
        for account, checks in found:
            name = _name(account)
            state = _state(account)
            for group, entry in account.entries.items() or [("", None)]:
                row = [name, state, Text(self._short(group))]
                row += [_outcome(entry, checks.get(group)), Text(_where(entry))] if entry else [Text("not read yet")]
                table.add_row(*row)
                name = state = Text("")
        return table

    def _books(self, outcome: Outcome) -> Table:
        table = Table(title="Books", title_justify="left", box=None, pad_edge=False)
        table.add_column("Group")
        for column in ("Sent", *STATUSES, "Bytes"):
            table.add_column(column.replace("_", "-").capitalize(), justify="right")
        for group, book in sorted(outcome.totals.books.items()):
            counts = [
                Text(f"{book.counts[status]:,}", style=_style(status, book.counts[status])) for status in STATUSES
            ]
            table.add_row(Text(self._short(group)), f"{book.sent:,}", *counts, size_text(book.delivered_bytes))
        return table

    def _short(self, group: str) -> str:
        return printable(group.removeprefix(self._prefix).encode("utf-8", "replace"))


def _style(status: str, count: int) -> str:
    return _STYLES.get(status, "red") if count else "dim"


def _name(account: Account) -> Text:
    if account.sent is None:
        return Text(f"(file {account.file.hex()})")
    attempt = f" (attempt {account.sent.attempt + 1})" if account.sent.attempt else ""
    return Text(printable(account.sent.path) + attempt)


def _state(account: Account) -> Text:
    if account.sent is None:
        return Text("not announced")
    size = "" if account.sent.size is None else f", {size_text(account.sent.size)}"
    return Text(f"{account.sent.state}{size}")


def _outcome(entry: Entry, found: Check | None) -> Text:
    text = Text(entry.status.replace("_", "-"), style=_STYLES.get(entry.status, "red"))
    if entry.code:
        text.append(f": {printable(entry.code.encode('utf-8', 'replace'))}")
    if entry.hashes_equal:
        text.append(", hashes equal")
    if entry.settled_by is not None:
        text.append(", settled by a later attempt", style="green")
    if found is not None:
        reason = f" ({found.reason})" if found.reason else ""
        text.append(f", {found.finding}{reason}", style="red" if found.bad else "")
    return text


def _where(entry: Entry) -> str:
    where = entry.received.where if entry.received else None
    return printable((where or "").encode("utf-8", "replace"))


def _time(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC).isoformat()
