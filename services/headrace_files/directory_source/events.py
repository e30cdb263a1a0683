"""File system events, as hints where to look. They are never trusted alone: scans find what they missed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
import watchfiles

AGAIN = 0.2  # seconds until the watch begins anew after a name that it cannot tell
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0  # seconds, where the system refuses, such as at its limit of watches

log = structlog.get_logger(__name__)

STEP = 40  # milliseconds between two looks at what has come
MOST_TOGETHER = 200  # milliseconds that a burst of events is collected
FIRST_WORD = 200  # milliseconds after which a watch without events says that it stands
READY_WITHIN = 30.0  # seconds; after that the scans do alone until the events come


@dataclass(frozen=True, slots=True)
class Hint:
    """Look at `path` (relative). `appeared`: it may be a new folder, to be walked."""

    path: bytes
    appeared: bool


class EventWatcher:
    """Watches a tree in a thread of its own.

    Parameters:
        hints: gets what happened.
        missed: called when events were lost: everything has to be looked at.
    """

    def __init__(self, root: bytes, hints: Callable[[Sequence[Hint]], None], missed: Callable[[], None]) -> None:
        self._root = root
        self._hints = hints
        self._missed = missed
        self._lost = False
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="events", daemon=True)
        self._thread.start()

    def wait_ready(self) -> None:
        """Return when what happens from now on is seen, or after half a minute."""
        self._ready.wait(READY_WITHIN)

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(5.0)

    def _watch(self) -> None:
        pause = 0.0
        trouble = FIRST_PAUSE
        while not self._stop.wait(pause):
            try:
                self._follow()
                pause, trouble = FIRST_PAUSE, FIRST_PAUSE
            except (OSError, RuntimeError) as error:
                # watchfiles gives up at the first name that is no UTF-8, at a lost folder, at a limit of the system.
                name = type(error).__name__
                undecodable = "decode" in str(error)
                log.debug("events begin anew", problem=name) if undecodable else log.warning(
                    "file system events are lost for a while; scans go on", problem=f"{name}: {error}"
                )
                pause = AGAIN if undecodable else trouble
                trouble = FIRST_PAUSE if undecodable else min(2 * trouble, LONGEST_PAUSE)
            self._lost = True

    def _follow(self) -> None:
        for changes in watchfiles.watch(
            os.fsdecode(self._root),
            watch_filter=None,
            debounce=MOST_TOGETHER,
            step=STEP,
            stop_event=self._stop,
            rust_timeout=FIRST_WORD,
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        ):
            if not self._ready.is_set():
                self._ready.set()
            if self._lost:
                # Only now: what happens from here on is seen.
                self._lost = False
                self._missed()
            if changes:
                self._hints(
                    [
                        Hint(os.fsencode(path)[len(self._root) + 1 :], kind is watchfiles.Change.added)
                        for kind, path in changes
                    ]
                )
