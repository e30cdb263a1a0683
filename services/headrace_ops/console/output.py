"""What a command says while it runs, kept for people to look at: a few hundred lines, never more."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from headrace.jobs.progress import FIGURES, StageProgress

LINES = 400
LONGEST_LINE = 4000
ONE_LOOK = 4 * 1024 * 1024
"""Bytes taken in at a time."""
TAIL = 64 * 1024
OWN_WORDS = "headrace: "
"""Begins the line in which the command line says why it gave up."""
MOST_STAGES = 50


class Output:
    """Takes in lines of standard output and of the log.

    `said` is plain output, `log` what a log would hold, `stages` the last word on each stage, `problem` why the command
    gave up.
    """

    def __init__(self) -> None:
        self.said: deque[str] = deque(maxlen=LINES)
        self.log: deque[str] = deque(maxlen=LINES)
        self._stages: dict[tuple[str | None, ...], StageProgress] = {}
        self.problem: str | None = None

    def take(self, line: bytes) -> None:
        """One line of standard output."""
        found = _object(line)
        event = None if found is None else found.get("event")
        if found is None or not isinstance(event, str):
            self.said.append(_text(line))
        elif event == "progress":
            stage = _stage(found)
            key = stage.stage, stage.group, stage.dataset, stage.file
            if key in self._stages or len(self._stages) < MOST_STAGES:
                self._stages[key] = stage
        elif isinstance(text := found.get("text"), str):
            self.log.append(text[:LONGEST_LINE])

    @property
    def stages(self) -> list[StageProgress]:
        """How far each stage is."""
        return list(self._stages.values())

    def take_log(self, line: bytes) -> None:
        """One line of standard error."""
        text = log_line(line)
        if text.startswith(OWN_WORDS):
            self.problem = text.removeprefix(OWN_WORDS)
        self.log.append(text)


class Growing:
    """Lines of a file that grows, each once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def lines(self, *, whole: bool) -> list[bytes]:
        """Those that have come since; with `whole` also a last one that has no end."""
        if self._file is None:
            try:
                self._file = self._path.open("rb")
            except FileNotFoundError:
                return []
        *found, self._rest = (self._rest + self._file.read(ONE_LOOK)).split(b"\n")
        if (whole and self._rest) or len(self._rest) > ONE_LOOK:
            found.append(self._rest)
            self._rest = b""
        return found

    def close(self) -> None:
        """Let go of it."""
        if self._file is not None:
            self._file.close()


def tail(path: Path, most: int) -> list[str]:
    """The last lines of a log, for people; none if it is not there."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL))
            lines = file.read(TAIL).split(b"\n")
    except OSError:
        return []
    # The first one may have lost its beginning.
    return [log_line(line) for line in (lines[1:] if size > TAIL else lines) if line.strip()][-most:]


def log_line(line: bytes) -> str:
    """A line of a structured log as a person reads it; any other as it is."""
    found = _object(line)
    if found is None or "event" not in found:
        return _text(line)
    time = str(found.pop("timestamp", ""))[11:19]
    level, service, event = (str(found.pop(name, "")) for name in ("level", "service", "event"))
    more = " ".join(f"{name}={value}" for name, value in found.items())
    return " ".join(part for part in (time, level, service, event, more) if part)[:LONGEST_LINE]


def _object(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(b"{"):
        return None
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _text(line: bytes) -> str:
    return line[:LONGEST_LINE].decode("utf-8", "backslashreplace").rstrip("\r")


def _stage(event: dict[str, Any]) -> StageProgress:
    """What `StageProgress.as_json` says."""
    figures = {name: value for name in FIGURES if isinstance(value := event.get(name), int)}
    words = {name: value for name in ("group", "dataset", "file") if isinstance(value := event.get(name), str)}
    left = event.get("seconds_left")
    return StageProgress(
        str(event.get("stage")), words.get("group"), figures, words.get("dataset"), words.get("file"),
        left if isinstance(left, int | float) else None,
    )  # fmt: skip
