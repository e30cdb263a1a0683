"""The zombie guard: a process that was paused past its session must not act when it wakes.

Its lease is the last commit that the coordinator answered: no outside effect starts if that commit was *sent* more
than half a session ago. (The last successful poll is no lease: after SIGCONT it returns a message from the local queue;
measured, the old version of a file won in 2 of 8 tries, with the lease in 0 of 7.) Source: design section 4, zombies.
"""

from __future__ import annotations

import time


def _now() -> float:
    # Counts on while the machine sleeps, which CLOCK_MONOTONIC does not.
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """Whether this process is surely still a member of its group. Safe to ask from any thread.

    Parameters:
        session: the group's session time-out in seconds.
    """

    def __init__(self, session: float) -> None:
        self._half = session / 2
        self._sent: float | None = None
        self._last_turn = _now()

    def clock(self) -> float:
        """The time for `renew`, in seconds."""
        return _now()

    def renew(self, sent: float) -> None:
        """The coordinator answered a commit that was sent at `sent`."""
        if self._sent is None or sent > self._sent:
            self._sent = sent

    def revoke(self) -> None:
        """Nothing may be done until the next answered commit."""
        self._sent = None

    def valid(self) -> bool:
        """Whether an outside effect may start now."""
        sent = self._sent
        return sent is not None and _now() - sent <= self._half

    def age(self) -> float:
        """Seconds since the last answered commit was sent; infinite if there is none."""
        sent = self._sent
        return float("inf") if sent is None else _now() - sent

    def slept(self) -> bool:
        """Whether this is the first call after a gap of more than half a session since the one before."""
        last, self._last_turn = self._last_turn, _now()
        return self._last_turn - last > self._half
