"""Commands with jobs, run as a user would, and an oracle that recomputes their books from raw messages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import msgpack

from tests.support import books
from tests.support.oracle import SCHEMAS, SINGLE_OBJECT_HEADER, avro_records, messages
from tests.support.processes import HEADRACE
from tests.support.terminal import Terminal
from tests.support.waiting import wait_until


@dataclass
class Site:
    """A machine with settings of its own: one sink, one state folder."""

    bootstrap: str
    prefix: str
    folder: Path
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "site"

    @property
    def group(self) -> str:
        return f"{self.prefix}assembler.site"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "HEADRACE_KAFKA__BOOTSTRAP": self.bootstrap,
            "HEADRACE_KAFKA__PREFIX": self.prefix,
            "HEADRACE_STATE": str(self.folder / "state"),
            "HEADRACE_ASSEMBLER__ROOT": str(self.root),
            "HEADRACE_ASSEMBLER__SINK": "site",
            **self.extra,
        }

    def external(self) -> Site:
        """The same, but services run elsewhere."""
        return Site(self.bootstrap, self.prefix, self.folder, {**self.extra, "HEADRACE_SERVICES__EXTERNAL": "true"})

    def start(self, *arguments: str | Path) -> Command:
        return Command(self, [str(each) for each in arguments])

    def terminal(self, *arguments: str | Path) -> Terminal:
        """A command on a terminal of its own, where somebody may press Ctrl-C."""
        self.folder.mkdir(exist_ok=True)
        return Terminal([HEADRACE, *arguments], self.environment)

    def run(self, *arguments: str | Path, within: float = 60.0) -> Command:
        """Run a command to its end."""
        command = self.start(*arguments)
        command.end(within)
        return command

    @contextmanager
    def service(self, *arguments: str) -> Iterator[Command]:
        """A service that runs meanwhile."""
        service = self.start(*arguments)
        try:
            yield service
        finally:
            service.interrupt(signal.SIGTERM)
            service.end()

    def entries(self, job: str) -> list[dict[str, Any]]:
        """Everything that ledgers wrote of a job, in order."""
        schema = fastavro.parse_schema(json.loads((SCHEMAS / "Job.avsc").read_text()))
        return [
            fastavro.schemaless_reader(BytesIO((message.value() or b"")[SINGLE_OBJECT_HEADER:]), schema, None)
            for message in messages(self.bootstrap, f"{self.prefix}jobs")
            if message.key() == f"{job}/books".encode()
        ]

    def last(self, job: str) -> dict[str, Any]:
        return (self.entries(job) or [{}])[-1]

    def announced(self, job: str) -> set[str]:
        """The versions that a job's source has announced, by id."""
        events = avro_records(self.bootstrap, f"{self.prefix}files", "FileEvent")
        return {event["file"].hex() for event in events if event["job"] == job and event["state"] == "announced"}

    def opened(self) -> Counter[str]:
        """How often each version was sent, by its id: its open or whole frames."""
        found: Counter[str] = Counter()
        for message in messages(self.bootstrap, f"{self.prefix}chunks"):
            if msgpack.unpackb(message.value() or b"")["k"] in ("open", "whole"):
                found[(message.key() or b"").decode().split("/")[1]] += 1
        return found


class Command:
    """One `headrace` command in a process, with its lines as they come."""

    def __init__(self, site: Site, arguments: list[str]) -> None:
        self.lines: list[str] = []
        site.folder.mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            [str(HEADRACE), *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            cwd=site.folder, env=site.environment, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))

    def says(self, words: str) -> bool:
        return any(words in line for line in self.lines)

    def await_line(self, words: str, within: float = 30.0) -> None:
        wait_until(lambda: self.says(words) or (self._process.poll() is not None and self.lines), within=within)
        assert self.says(words), "\n".join(self.lines)

    def interrupt(self, number: int = signal.SIGINT) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self, within: float = 60.0) -> int:
        """Its exit code."""
        try:
            code = self._process.wait(within)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError("it did not end:\n" + "\n".join(self.lines)) from None
        self._reader.join(5)
        return code

    @property
    def code(self) -> int | None:
        return self._process.returncode

    @property
    def objects(self) -> list[Any]:
        """Its output as JSON lines; log lines left out."""
        return [each for each in map(json.loads, self.lines) if "level" not in each]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def whole(self) -> list[Any]:
        """Its output as JSON over several lines; log lines left out."""
        text = "\n".join(line for line in self.lines if not line.startswith('{"timestamp"'))
        return [json.loads(text)]


def books_from_raw(site: Site, job: str, group: str) -> dict[str, int]:
    """What one group made of the files of one job, by the raw events and receipts alone."""
    return books.job_book(books.told(site.bootstrap, site.prefix), job, group)


def check_books(site: Site, job: str, group: str) -> None:
    """The ledger's books are those that the raw messages give."""
    assert books.wrong_in_job(books.told(site.bootstrap, site.prefix), site.last(job), {group}) == []
