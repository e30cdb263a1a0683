"""The job of a command that sends: its words on the log, its own copies of services, and how it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import typer

from headrace.cli.copies import groups_of, own_copies
from headrace.cli.following import follow, heed_late_stop, say_how_to_follow
from headrace.cli.interrupts import Interrupts, OnInterrupt, interrupts
from headrace.cli.job_report import JobReport, job_reporting, total
from headrace.cli.runtime import Session
from headrace.errors import ConfigError
from headrace.jobs.assessment import Exit, Wanted
from headrace.jobs.commands import check_kind, command_for
from headrace.jobs.following import JobFollower
from headrace.jobs.ids import check_job_id, new_job_id
from headrace.jobs.lock import sender_lock
from headrace.jobs.log import JobWriter, Known, read_jobs
from headrace.kafka.clients import Cluster
from headrace.proof.groups import positions
from headrace.topics import CHUNKS

LOOK_SECONDS = 0.25
FAIL_SECONDS = 10.0
"""How long a command whose job has failed stays to see it written down."""
TAIL_BYTES = 64 * 1024
SAYS = "headrace: "


class CopyRefused(ConfigError):
    """{service} cannot run: {problem} When that is mended, run this again: the job goes on. Its log is in {logs}."""

    code = "copy-refused"


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What the user said of the job.

    Parameters:
        job: its id; None: one is made up.
        to: sections of the services that must have everything, with commas between them; None: whoever reads now.
        records: by dataset, the section of the service that must account for each of its records.
        topic: where the frames of its files go: without `to`, whoever reads it must have them.
    """

    kind: str
    job: str | None
    to: str | None
    on_interrupt: OnInterrupt
    json: bool
    records: Mapping[str, str] = field(default_factory=dict)
    topic: str = CHUNKS.name


class SourceJob:
    """What such a command has in its hands while its job runs.

    `sends` is whether this process is the one of this machine that sends; it is not if it was told to leave before
    another one ended. `known` is what the log said of the job before.
    """

    def __init__(
        self,
        request: JobRequest,
        job: str,
        groups: tuple[str, ...],
        cluster: Cluster,
        asked: Interrupts,
        records: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.job = job
        self.groups = groups
        self.records = records
        self.asked = asked
        self.sends = False
        self.known = Known()
        self.refused: str | None = None
        """A service of ours that cannot run as it is set."""
        self.report: JobReport = job_reporting(json=request.json)
        self._kind = request.kind
        self._writer = JobWriter(cluster)
        self._follower = JobFollower(cluster, job)
        self._began: int | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._left = False

    def begin(self, *, standing: bool = False) -> None:
        """Say that the job is to run and its source has not announced all yet; from now on, listen for its stop."""
        self._say(Wanted(self.groups, standing=standing, records=self.records))
        self._thread = threading.Thread(target=self._listen, name="stop", daemon=True)
        self._thread.start()

    def announced_all(self, files: int, problem: str | None = None) -> None:
        """Say that the source has announced everything: so many files in all.

        Parameters:
            problem: why these are not all that there should be: the job has failed.
        """
        self._stop_listening()
        # Not over the head of somebody who stopped it.
        if not self.told_to_stop():
            self._say(Wanted(self.groups, files=files, records=self.records, problem=problem))

    def fail(self, files: int, problem: str) -> None:
        """End the job, of which so many files are announced, since its source cannot go on."""
        self.announced_all(files, problem)
        deadline = time.monotonic() + FAIL_SECONDS
        while not self._follower.done and time.monotonic() < deadline and not self.asked.leave.is_set():
            self._follower.poll(LOOK_SECONDS)
        self.report.close(self._follower.answer, Exit.FAILED)

    def is_said(self, group: str, files: int) -> bool:
        """Wait until a group has said something of so many files; False if told to leave before. After `begin`."""
        while True:
            job = self._follower.known.job
            if any(book.group == group and total(book) >= files for book in (() if job is None else job.books)):
                return True
            if self.asked.leave.wait(LOOK_SECONDS):
                return False

    def told_to_stop(self) -> bool:
        """Whether the user or a command elsewhere wants the job stopped."""
        return self.asked.stop.is_set() or (self._began is not None and self._follower.stopped_after(self._began))

    def finish(self) -> Exit:
        """Follow the job to its end, or as far as the user wants to."""
        self._stop_listening()
        code = follow(self._follower, self._writer, self.report, self.asked, self.told_to_stop)
        self.report.close(self._follower.known.job, code)
        self._left = code is Exit.DETACHED
        return code

    def leave(self) -> Exit:
        """Leave the job to others, or for later."""
        self._stop_listening()
        say_how_to_follow(self.report, self.job)
        self.report.close(self._follower.known.job, Exit.DETACHED)
        self._left = True
        return Exit.DETACHED

    def heed_late_stop(self) -> None:
        """Stop a job that was left, if the user wanted that only while our services were draining."""
        if self._left:
            heed_late_stop(self._follower, self._writer, self.asked)

    def refuse(self, service: str) -> None:
        """One of our services cannot run as it is set: leave the job, since nobody knows who else would do it."""
        self.refused = service
        self.asked.leave.set()

    def close(self) -> None:
        """Let go of the connections."""
        self._stop_listening()
        self._follower.close()

    def _say(self, wanted: Wanted) -> None:
        offset = self._writer.write(command_for(self.job, self._kind, wanted))
        if self._began is None:
            self._began = offset

    def _listen(self) -> None:
        while not self._ended.is_set():
            if self._follower.poll(LOOK_SECONDS) and self._follower.caught_up:
                self.report.progress(self._follower.stages)
            if self.told_to_stop():
                self.asked.leave.set()
                return

    def _stop_listening(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None


def _last_words(logs: Path) -> str:
    """The last error that a service of ours told, as it would tell it on a terminal."""
    with logs.open("rb") as file:
        file.seek(max(0, logs.stat().st_size - TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
    said = [line.removeprefix(SAYS) for line in lines if line.startswith(SAYS)]
    return said[-1] if said else "it ended with exit code 2."


@contextmanager
def source_job(context: typer.Context, session: Session, cluster: Cluster, request: JobRequest) -> Iterator[SourceJob]:
    """Run a job: check it, start its services' copies, wait until this process may send, and clean up at the end.

    Raises WrongJobId, OtherKind, NoGroup, UnknownService, MissingTopic, KafkaUnreachable.
    """
    job = new_job_id(request.kind) if request.job is None else check_job_id(request.job)
    services = [name.strip() for name in (request.to or "").split(",") if name.strip()]
    check_kind(job, request.kind, read_jobs(cluster, job).get(job))
    reading = sorted(group for group, topics in positions(cluster).items() if request.topic in topics)
    groups = groups_of(session, cluster, services) if services else tuple(reading)
    records = tuple(
        (dataset, groups_of(session, cluster, [service])[0]) for dataset, service in request.records.items()
    )
    services += request.records.values()
    folder = session.settings.state / "jobs"
    with interrupts(request.on_interrupt) as asked:
        running = SourceJob(request, job, groups, cluster, asked, records)
        running.report.note(f"job {job}")
        try:
            with (
                own_copies(context, session, services, folder / f"{job}.log", running.refuse),
                sender_lock(
                    folder,
                    f"{cluster.settings.prefix}{job}",
                    asked.leave,
                    lambda: running.report.note("another process sends for this job; waiting for its end"),
                ) as running.sends,
            ):
                running.known = read_jobs(cluster, job).get(job, Known())
                yield running
        finally:
            running.heed_late_stop()
            running.close()
        if running.refused is not None:
            logs = folder / f"{job}.log"
            raise CopyRefused(service=running.refused, problem=_last_words(logs), logs=logs)
