"""Whether a service is well: it is when everything that has work before it moves, or has said why it pauses.

"The process is up" says nothing. Source: design section 4, liveness.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

PATIENCE = timedelta(seconds=60)


@dataclass(slots=True)
class _Part:
    """One partition, or one kind of work of a source."""

    position: int
    moved: float
    lag: int = 0


@dataclass(frozen=True)
class Verdict:
    """Whether all is well, and if not, why; `pauses` are declared and therefore well."""

    well: bool
    reasons: list[str] = field(default_factory=list)
    pauses: list[str] = field(default_factory=list)


class Health:
    """What a service says of its work, from any thread, and what follows from it.

    Parameters:
        patience: how long work may wait without any progress or declared pause.
        clock: seconds, monotonic.
    """

    def __init__(self, patience: timedelta = PATIENCE, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience.total_seconds()
        self._clock = clock
        self._lock = threading.Lock()
        self._parts: dict[str, _Part] = {}
        self._pauses: dict[str, tuple[float, str]] = {}
        self._beat: float | None = None
        self._ready = False
        self._not_ready = "it has not started yet"

    def ready(self) -> None:
        """Partitions are assigned, or the source has started."""
        with self._lock:
            self._ready = True

    def not_ready(self, reason: str) -> None:
        """It cannot work at the moment."""
        with self._lock:
            self._ready = False
            self._not_ready = reason

    def beat(self) -> None:
        """The main loop has come round; once it has done so, it must go on to."""
        with self._lock:
            self._beat = self._clock()

    def progress(self, part: str, position: int, lag: int | None = None) -> None:
        """`part` (a partition, a folder) stands at `position` and has `lag` units of work before it; None: unknown."""
        now = self._clock()
        with self._lock:
            known = self._parts.get(part)
            if known is None:
                self._parts[part] = _Part(position, now, lag or 0)
                return
            # What had nothing to do may not have moved for long: its patience begins when work comes.
            if position != known.position or known.lag == 0:
                known.moved = now
            known.position = position
            known.lag = known.lag if lag is None else lag

    def paused(self, part: str, seconds: float, reason: str) -> None:
        """`part` waits on purpose, for at most `seconds` from now."""
        with self._lock:
            self._pauses[part] = (self._clock() + seconds, reason)

    def resumed(self, part: str) -> None:
        """`part` waits no longer; its patience begins anew."""
        with self._lock:
            self._pauses.pop(part, None)
            if part in self._parts:
                self._parts[part].moved = self._clock()

    def forget(self, part: str) -> None:
        """`part` is no longer ours."""
        with self._lock:
            self._parts.pop(part, None)
            self._pauses.pop(part, None)

    def alive(self) -> Verdict:
        """Whether everything that has work moves, or pauses for a reason."""
        now = self._clock()
        reasons, pauses = [], []
        with self._lock:
            for part, (until, reason) in self._pauses.items():
                if now < until + self._patience:
                    pauses.append(f"{part}: {reason}")
            excused = {part for part, (until, _) in self._pauses.items() if now < until + self._patience}
            for part, state in self._parts.items():
                still = now - state.moved
                if state.lag > 0 and still > self._patience and part not in excused:
                    reasons.append(f"{part}: no progress for {still:.0f} s with {state.lag} to do")
            if self._beat is not None and now - self._beat > self._patience:
                reasons.append(f"the main loop has not come round for {now - self._beat:.0f} s")
        return Verdict(not reasons, reasons, pauses)

    def accepting(self) -> Verdict:
        """Whether it has started and works."""
        with self._lock:
            return Verdict(self._ready, [] if self._ready else [self._not_ready])
