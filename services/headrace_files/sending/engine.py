"""What the owners of a sending engine, the watcher and the upload, ask of it; there are two engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from headrace.events import FileEvent
from headrace_files.sending.jobs import Job
from headrace_files.sending.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Abroad:
    """Files go to a topic that is not ours, in the layout of OpenMSIStream.

    Parameters:
        topic: theirs, by its name as it is.
        elements: of the layout: 10, or 9 for readers of before April 2026.
    """

    topic: str
    elements: int = 10


class OnItsWay(Protocol):
    """A version that is being sent: `acked` of its bytes are on the log, in frames of `chunk` bytes."""

    @property
    def job(self) -> Job:
        """What was asked for."""

    @property
    def snapshot(self) -> Snapshot:
        """The version."""

    @property
    def chunk(self) -> int:
        """Bytes of a frame."""

    @property
    def acked(self) -> int:
        """Bytes on the log."""


class Engine(Protocol):
    """Sends files and reports each one's end to the listener that it was made with."""

    bytes_acknowledged: int

    @property
    def active(self) -> Mapping[int, OnItsWay]:
        """What is being sent."""

    @property
    def unfinished(self) -> int:
        """Jobs without an outcome."""

    def submit(self, job: Job) -> None:
        """Send this file when a reader is free."""

    def check(self) -> None:
        """Raise what ended the engine, if something did."""

    def stop(self, seconds: float | None) -> None:
        """End; what is begun has `seconds` to finish. None: no hurry."""

    def abandon(self, previous: FileEvent, reason: str) -> FileEvent:
        """Close a version that will never be finished; the last word on it."""
