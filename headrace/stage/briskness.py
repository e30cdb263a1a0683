"""How long a turn of the loop waits for its first message."""

from __future__ import annotations

IDLE_SECONDS = 0.05
# While a delivery report or a worker's result is surely near, it is not to wait for a message that does not come.
BRISK_SECONDS = 0.005
BRISK_FOR_SECONDS = 0.25


class Briskness:
    """Waits shortly for a while after something came or was sent. Seconds; `now` is by the monotonic clock."""

    def __init__(self) -> None:
        self._until = 0.0
        self._unacknowledged = False

    def wait(self, now: float, *, unacknowledged: bool) -> float:
        """How long to wait.

        Parameters:
            unacknowledged: whether something that was sent is not on the log yet.
        """
        if unacknowledged != self._unacknowledged:
            self._unacknowledged = unacknowledged
            self.stir(now)
        return BRISK_SECONDS if now < self._until else IDLE_SECONDS

    def stir(self, now: float) -> None:
        """A message came."""
        self._until = now + BRISK_FOR_SECONDS
