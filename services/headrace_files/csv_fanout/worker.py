"""The thread that publishes, so that the loop keeps polling."""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from dataclasses import dataclass

import structlog

from headrace.errors import FatalError, PermanentError
from headrace.stage.contract import Version
from headrace_files.csv_fanout.arriving import Arriving
from headrace_files.csv_fanout.publishing import Cancelled, Published, Publisher

VERSIONS_REMEMBERED = 10_000
CLOSE_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Broken(FatalError):
    """The fan-out failed on a file with {error}; that is a bug: report it. The process starts again."""

    code = "fan-out-broken"


@dataclass(frozen=True, slots=True)
class Superseded:
    """A newer version of the file was published already."""


Result = Published | Superseded | PermanentError | None


class Worker:
    """Takes complete files and gives back what became of them, in order; None of those that were cancelled."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._work: queue.SimpleQueue[tuple[Arriving, Version | None] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Arriving, Result]] = queue.SimpleQueue()
        self._latest: OrderedDict[str, Version] = OrderedDict()
        self._failure: FatalError | None = None
        self._thread = threading.Thread(target=self._run, name="fan-out", daemon=True)
        self._thread.start()

    def submit(self, arriving: Arriving, newest: Version | None) -> None:
        """Hand over a complete file; `newest` is the version of its path that was delivered last, as far as known."""
        self._work.put((arriving, newest))

    def collect(self) -> list[tuple[Arriving, Result]]:
        """What is done since the last call.

        Raises FatalError if the worker cannot go on.
        """
        found = []
        while True:
            try:
                found.append(self._results.get_nowait())
            except queue.Empty:
                break
        if not found and self._failure is not None:
            raise self._failure
        return found

    def close(self) -> None:
        """End; the publisher must know that it is to stop."""
        self._work.put(None)
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        try:
            while (work := self._work.get()) is not None:
                arriving, newest = work
                self._results.put((arriving, None if arriving.cancelled else self._one(arriving, newest)))
            self._publisher.close()
        except Cancelled:
            self._publisher.close()
        except FatalError as error:
            self._failure = error
        except Exception as error:
            log.exception("the fan-out failed unexpectedly")
            self._failure = Broken(error=type(error).__name__)

    def _one(self, arriving: Arriving, newest: Version | None) -> Result:
        path = arriving.first.path
        known = self._latest.get(path)
        if known is None or (newest is not None and newest.newer_than(known)):
            known = newest
        if known is not None and known.newer_than(arriving.version):
            return Superseded()
        try:
            published = self._publisher.publish(arriving)
        except PermanentError as error:
            return error
        except Cancelled:
            if arriving.cancelled:
                return None
            raise
        self._latest[path] = arriving.version
        self._latest.move_to_end(path)
        if len(self._latest) > VERSIONS_REMEMBERED:
            self._latest.popitem(last=False)
        return published
