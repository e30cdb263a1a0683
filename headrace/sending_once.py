"""What a command of one family asks of another's source: send these files once, under this job.

A source that can do so names its function in `StageEntry.send_once`; the command finds it through `headrace.families`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal, Protocol

from headrace.config import Settings, Sources
from headrace.kafka.clients import Cluster

Result = Literal["sent", "unchanged", "fetched", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class FileRequest:
    """A file to send.

    Parameters:
        path: where the source finds it; of a remote one parts of the date may stand as in strftime.
        dataset: that it belongs to.
        meta: what receivers are told besides.
        keep: where a copy of a remote file is put once it is here and whole.
        restart_at: byte from which a remote file is fetched again, though more of it is here; 0: all of it.
    """

    path: str
    dataset: str | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    keep: Path | None = None
    restart_at: int | None = None


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of a request: `path` as it was looked for, `file` the version's id; `code` and `reason` of a failure.

    `sent` and `unchanged` mean that it is on the log under the job; `fetched` that it is here.
    """

    result: Result
    path: str
    size: int = 0
    file: bytes | None = None
    code: str | None = None
    reason: str | None = None


class Watcher(Protocol):
    """Is told how it goes, from the source's thread."""

    def progress(self, path: str, done: int, total: int) -> None:
        """`done` of `total` bytes are here, or on the log."""

    def say(self, event: str, path: str, **details: Any) -> None:
        """Something happened that a user wants to know."""


@dataclass(frozen=True, slots=True)
class Around:
    """What a source finds around it when it is asked.

    Parameters:
        overrides: settings of the source from the command line.
        job: under which files are sent; a version that is on the log under it is not sent again.
        groups: that the job waits for: a version that one of them failed is offered again.
        day: whose files are meant.
        stop: when set, what is under way is left half-way.
        publish: false: only fetch.
    """

    cluster: Cluster
    settings: Settings
    sources: Sources
    job: str
    groups: Sequence[str]
    day: date
    stop: threading.Event
    watcher: Watcher
    overrides: Mapping[str, Any] = field(default_factory=dict)
    publish: bool = True


class SendOnce(Protocol):
    """Sends files, one after the other, and says what became of each."""

    def __call__(self, files: Sequence[FileRequest], around: Around) -> list[FileResult]:
        """Send them. Raises ConfigError, or what ended the sender."""
