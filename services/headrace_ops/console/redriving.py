"""Deciding on dead letters from a page: what `headrace dlq redrive` and `discard` do, the same way, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from headrace.deadletters.decisions import record
from headrace.deadletters.listing import standing
from headrace.deadletters.progress import Progress
from headrace.deadletters.redrive import Redrive, Redriven
from headrace.deadletters.selection import Histogram, Selection
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
    """One redrive or discarding, as it goes; `problem` is why it ended early, `discarded` how many were."""

    done: int = 0
    total: int = 0
    ended: bool = False
    survey: Survey | None = None
    outcome: Redriven = field(default_factory=Redriven)
    problem: str | None = None
    discarded: int | None = None


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

    def survey(self, selection: Selection, *, force: bool = False) -> Survey:
        """What a redrive would do; changes nothing.

        Raises Busy, KafkaUnreachable, MissingTopic.
        """
        with self._one_looks(), Progress(self._cluster) as progress:
            return self._surveyor(selection, force).survey(progress.read())

    def histogram(self, selection: Selection) -> Histogram:
        """What would be discarded; changes nothing.

        Raises Busy, KafkaUnreachable, MissingTopic.
        """
        found = Histogram()
        with self._one_looks():
            for letter, _, state, _ in standing(self._cluster, selection, every=False):
                found.take(letter, state)
        return found

    def redrive(self, selection: Selection, *, force: bool = False) -> None:
        """Begin to re-drive in a thread of its own; `run` tells how it goes.

        Raises Busy while something else is under way.
        """
        self._start(lambda run: self._redrive(selection, force, run))

    def discard(self, selection: Selection, because: str | None) -> None:
        """Begin to discard, likewise."""
        self._start(lambda run: self._discard(selection, because, run))

    @contextmanager
    def _one_looks(self) -> Iterator[None]:
        if not self._looking.acquire(blocking=False):
            raise Busy
        try:
            yield
        finally:
            self._looking.release()

    def _start(self, act: Callable[[Run], None]) -> None:
        with self._lock:
            if self.run is not None and not self.run.ended:
                raise Busy
            run = self.run = Run()
            self._thread = threading.Thread(target=self._guarded, args=(act, run), name="decide", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Finish what is under way, and leave the rest."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10)

    def _guarded(self, act: Callable[[Run], None], run: Run) -> None:
        try:
            act(run)
        except HeadraceError as error:
            run.problem = str(error)
            log.warning("deciding on dead letters ended early", problem=run.problem)
        finally:
            run.ended = True

    def _redrive(self, selection: Selection, force: bool, run: Run) -> None:
        def report(done: int, total: int) -> None:
            run.done, run.total = done, total

        surveyor = self._surveyor(selection, force)
        run.survey, run.outcome = Redrive(self._cluster, surveyor, report).run(self._stop)
        log.info("re-driven from the console", sent=run.outcome.sent, left=run.outcome.left, force=force)

    def _discard(self, selection: Selection, because: str | None, run: Run) -> None:
        letters = [letter for letter, _, _, _ in standing(self._cluster, selection, every=False)]
        run.total = len(letters)
        run.discarded = record(self._cluster, letters, "discarded", because)
        log.info("discarded from the console", count=run.discarded)

    def _surveyor(self, selection: Selection, force: bool) -> Surveyor:
        return Surveyor(self._cluster, self._topics, selection, force=force)
