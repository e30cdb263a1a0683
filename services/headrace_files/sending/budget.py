"""How much may be under way to the broker: what bounds memory, and what a killed sender has to send again."""

from __future__ import annotations

import threading


class Closed(Exception):
    """Nothing more is given out; what waits must end."""


class Budget:
    """Bytes and messages that were produced and are not acknowledged yet.

    Parameters:
        most_bytes: payload bytes under way, except that one message always passes.
        most_messages: messages under way.
    """

    def __init__(self, most_bytes: int, most_messages: int) -> None:
        self._most_bytes = most_bytes
        self._most_messages = most_messages
        self._bytes = 0
        self._messages = 0
        self._waiting = 0
        self._closed = False
        self._changed = threading.Condition(threading.Lock())

    def take(self, size: int) -> None:
        """Wait until a message of `size` bytes may go. Raises Closed once `close` was called."""
        with self._changed:
            while not self._fits(size):
                self._waiting += 1
                self._changed.wait()
                self._waiting -= 1
            self._bytes += size
            self._messages += 1

    def give(self, size: int, messages: int = 1) -> None:
        """A message of `size` bytes is on the log."""
        with self._changed:
            self._bytes -= size
            self._messages -= messages
            # Not for every message: waking a thread costs more than the message.
            if (
                self._waiting
                and self._bytes <= self._most_bytes * 3 // 4
                and self._messages <= self._most_messages * 3 // 4
            ):
                self._changed.notify_all()

    def check(self) -> None:
        """Raise Closed once `close` was called."""
        with self._changed:
            if self._closed:
                raise Closed

    def close(self) -> None:
        """Wake everybody who waits, to end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _fits(self, size: int) -> bool:
        if self._closed:
            raise Closed
        if self._messages == 0:
            return True
        return self._bytes + size <= self._most_bytes and self._messages < self._most_messages
