"""Writing commands: the whole desired state of a job, of which the last one wins."""

from __future__ import annotations

import getpass
import platform
import time
from typing import Literal

from headrace.errors import ConfigError
from headrace.events import Command
from headrace.jobs.assessment import Wanted
from headrace.jobs.log import Known


class UnknownJob(ConfigError):
    """There is no job {job} on this Kafka. See: headrace jobs list."""

    code = "unknown-job"


class OtherKind(ConfigError):
    """The job {job} is of the kind {known}, not {kind}. Take another id, or none to have one made up."""

    code = "other-kind-of-job"


def command_for(job: str, kind: str, wanted: Wanted, desired: Literal["run", "stop"] = "run") -> Command:
    """A command of this user, now."""
    return Command(job=job, kind=kind, desired=desired, params=wanted.params(), by=_user(), at=time.time_ns() // 1000)


def stop_command(job: str, known: Known | None) -> Command:
    """The command that stops a job and changes nothing else of it.

    Raises UnknownJob if it has none.
    """
    wanted = None if known is None else known.wanted
    if wanted is None:
        raise UnknownJob(job=job)
    return command_for(job, wanted.kind, Wanted.of(wanted), "stop")


def check_kind(job: str, kind: str, known: Known | None) -> None:
    """Raises OtherKind if the job is there and of another kind."""
    wanted = None if known is None else known.wanted
    if wanted is not None and wanted.kind != kind:
        raise OtherKind(job=job, kind=kind, known=wanted.kind)


def _user() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "?"
    return f"{name}@{platform.node()}"
