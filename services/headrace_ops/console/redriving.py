"""Re-driving from a page: the same survey and the same redrive as `headrace dlq`, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from headrace.deadletters.progress import Progress
from headrace.deadletters.redrive import Redrive, Redriven
from headrace.deadletters.selection import Selection
from headrace.deadletters.survey import Survey, Surveyor
from headrace.errors import HeadraceError, TransientError
from headrace.kafka.clients import Cluster
from headrace.topics import Topic

log = structlog.get_logger(__name__)


class Busy(TransientError):
    """The console is unwell: it does one thing of this kind at a time, and another one is under way."""

    code = "console-busy"
    default_retry_after = 2.0


@dataclass
class Run:
    """One redrive, as it goes; `problem` is why it ended early."""

    done: int = 0
    total: int = 0
    ended: bool = False
    survey: Survey | None = None
    outcome: Redriven = field(default_factory=Redriven)
    problem: str | None = None


class Redriving:
    """The redrives of one console.

    Parameters:
        topics: the catalogue.
    """

    def __init__(self, cluster: Cluster, topics: Sequence[Topic]) -> None:
        self._cluster = cluster
        self._topics = topics
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.run: Run | None = None

    def survey(self, selection: Selection) -> Survey:
        """What a redrive would do; changes nothing.

        Raises Busy, KafkaUnreachable, MissingTopic.
        """
        if not self._looking.acquire(blocking=False):
            raise Busy
        try:
            with Progress(self._cluster) as progress:
                return self._surveyor(selection).survey(progress.read())
        finally:
            self._looking.release()

    def start(self, selection: Selection) -> None:
        """Begin to re-drive in a thread of its own; `run` tells how it goes.

        Raises Busy while another one is under way.
        """
        with self._lock:
            if self.run is not None and not self.run.ended:
                raise Busy
            run = self.run = Run()
            self._thread = threading.Thread(target=self._redrive, args=(selection, run), name="redrive", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Finish what is under way, and leave the rest."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10)

    def _redrive(self, selection: Selection, run: Run) -> None:
        def report(done: int, total: int) -> None:
            run.done, run.total = done, total

        try:
            run.survey, run.outcome = Redrive(self._cluster, self._surveyor(selection), report).run(self._stop)
            log.info("re-driven from the console", sent=run.outcome.sent, left=run.outcome.left)
        except HeadraceError as error:
            run.problem = str(error)
            log.warning("a redrive ended early", problem=run.problem)
        finally:
            run.ended = True

    def _surveyor(self, selection: Selection) -> Surveyor:
        return Surveyor(self._cluster, self._topics, selection)
