"""Following a job from a command: to its end, until the user leaves, or stops it."""

from __future__ import annotations

import time
from collections.abc import Callable

import typer

from headrace.cli.interrupts import Interrupts
from headrace.cli.job_report import JobReport
from headrace.jobs.assessment import Exit, exit_code
from headrace.jobs.commands import stop_command
from headrace.jobs.following import JobFollower
from headrace.jobs.log import JobWriter

PATIENCE = 0.25
"""Seconds to wait for news before the user is asked again."""
STOP_SECONDS = 10.0
"""How long a command that stopped its job stays to see it stopped."""


def follow(
    follower: JobFollower,
    writer: JobWriter,
    report: JobReport,
    asked: Interrupts,
    to_stop: Callable[[], bool] | None = None,
) -> Exit:
    """Show a job until it is done, and return what to tell scripts.

    Parameters:
        to_stop: whether the job is to be stopped; by default that the user asked for it.

    Raises UnknownJob if it is to be stopped and is not there, KafkaUnreachable.
    """
    deadline: float | None = None
    shown = None
    while True:
        # What was read before counts, too.
        job = follower.answer
        if job is not None and job != shown and follower.caught_up:
            report.show(job)
            shown = job
        if follower.caught_up:
            report.progress(follower.stages)
        if follower.done and job is not None:
            return exit_code(job, follower.known.wanted)
        if deadline is None and (to_stop or asked.stop.is_set)():
            stop(follower, writer)
            report.note(f"stopping {follower.job}")
            deadline = time.monotonic() + STOP_SECONDS
        if deadline is not None and time.monotonic() >= deadline:
            report.note(f"it is not stopped yet; follow it: headrace jobs follow {follower.job}")
            return Exit.DETACHED
        if deadline is None and asked.leave.is_set():
            say_how_to_follow(report, follower.job)
            return Exit.DETACHED
        follower.poll(PATIENCE)


def stop(follower: JobFollower, writer: JobWriter) -> None:
    """Put the command to stop on the log, unless it is there."""
    while not follower.caught_up:
        follower.poll(PATIENCE)
    if not follower.told_to_stop():
        writer.write(stop_command(follower.job, follower.known))


def heed_late_stop(follower: JobFollower, writer: JobWriter, asked: Interrupts) -> None:
    """Stop a job that was left, if the user wanted that only while the command's own services were draining."""
    if asked.stop.is_set() and not follower.told_to_stop():
        stop(follower, writer)
        # Not by the report, whose last word has been said.
        typer.echo(f"stopping {follower.job}: no more of it is sent; see: headrace jobs show {follower.job}", err=True)


def say_how_to_follow(report: JobReport, job: str) -> None:
    """What a user needs to know who has left a job."""
    report.note(
        f"detached from {job}: it goes on where its services run; follow it: headrace jobs follow {job}; "
        f"stop it: headrace jobs stop {job}"
    )
