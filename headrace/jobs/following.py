"""Following one job until its books balance."""

from __future__ import annotations

from types import TracebackType

from headrace.events import Command, Job, Progress
from headrace.jobs.assessment import FINAL
from headrace.jobs.log import Known, follower, progress_in, words
from headrace.jobs.progress import StageProgress, stages
from headrace.kafka.clients import Cluster


class JobFollower:
    """What the log says of one job, and when something new is said. A context manager.

    Raises MissingTopic or KafkaUnreachable on creation.
    """

    def __init__(self, cluster: Cluster, job: str) -> None:
        self.job = job
        self.known = Known()
        self.progress: dict[tuple[str, str], Progress] = {}
        """What stages said last of how far they are, by group and item."""
        self._follower = follower(cluster, job)
        self._last_stop = -1

    @property
    def caught_up(self) -> bool:
        """Whether everything was read that was there at first."""
        return self._follower.caught_up

    def poll(self, seconds: float) -> bool:
        """Wait for news; whether there was any."""
        news = False
        messages = list(self._follower.poll(seconds))
        for progress in progress_in(messages):
            if progress.job == self.job:
                self.progress[progress.group, progress.item] = progress
                news = True
        for word in words(messages):
            if word.event.job == self.job:
                self.known.take(word)
                if isinstance(word.event, Command) and word.event.desired == "stop":
                    self._last_stop = word.offset
                news = True
        return news

    @property
    def answer(self) -> Job | None:
        """What a ledger has written since the last command."""
        command, books = self.known.command, self.known.books
        answered = command is not None and books is not None and books.offset > command.offset
        return self.known.job if answered else None

    @property
    def stages(self) -> list[StageProgress]:
        """How far the stages are, as far as they have said."""
        job = self.known.job
        return stages(list(self.progress.values()), () if job is None else job.books)

    @property
    def done(self) -> bool:
        """Whether a ledger has answered the last command, and says that the job is done."""
        return self.answer is not None and self.answer.state in FINAL

    def told_to_stop(self) -> bool:
        """Whether the last command is to stop."""
        wanted: Command | None = self.known.wanted
        return wanted is not None and wanted.desired == "stop"

    def stopped_after(self, offset: int) -> bool:
        """Whether somebody said stop after this place, even if a later word took it back unawares."""
        return self._last_stop > offset

    def close(self) -> None:
        """Let go of the connection."""
        self._follower.close()

    def __enter__(self) -> JobFollower:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
