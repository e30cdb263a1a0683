"""What the parts of `headrace demo` share: a folder, one Kafka, and how to run commands and stand-ins in the open.

Each family may bring a part. It has topics under a prefix of its own, so that its books are its own, too.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from headrace.broker import EmbeddedBroker
from headrace.errors import FatalError

STOP_SECONDS = 20.0


class StandInEnded(FatalError):
    """The stand-in `headrace sandbox {name}` did not start; what it said is in {log}."""

    code = "stand-in-ended"


@dataclass(frozen=True)
class Scene:
    """Where a part of the demonstration plays.

    Parameters:
        folder: everything is put below it.
        broker: the Kafka, running.
        seconds: over which files arrive, where a part lets them.
    """

    folder: Path
    broker: EmbeddedBroker
    console: Console
    seconds: float

    def write(self, name: str, text: str) -> Path:
        """A file that only its owner may read, since it may hold secrets."""
        path = self.folder / name
        path.touch(0o600)
        path.write_text(text, "utf-8")
        return path

    def command(self, *arguments: str | Path) -> list[str]:
        """The command line of `headrace`."""
        return [sys.executable, "-m", "headrace", *map(str, arguments)]

    def run(self, *arguments: str | Path) -> int:
        """Run `headrace …` in the open; its exit code."""
        sys.stdout.flush()
        return subprocess.run(self.command(*arguments), check=False).returncode

    @contextmanager
    def stand_in(self, name: str, *arguments: str | Path) -> Iterator[Mapping[str, Any]]:
        """Run `headrace sandbox NAME …` meanwhile; yields what it says of itself.

        Raises StandInEnded.
        """
        log = self.folder / f"{name}.log"
        with log.open("ab") as said:
            process = subprocess.Popen(
                self.command("sandbox", name, *arguments),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, start_new_session=True,
            )  # fmt: skip
        try:
            line = process.stdout.readline() if process.stdout is not None else b""
            if not line:
                raise StandInEnded(name=name, log=log)
            yield orjson.loads(line)
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
