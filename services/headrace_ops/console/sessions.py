"""Who is logged in: sessions in memory, ended by time, by logging out, or with the process."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

MOST_SESSIONS = 100


@dataclass(frozen=True, slots=True)
class Session:
    """One login. `proof` must come with everything that changes something; `until` is on the clock of `Sessions`."""

    name: str
    proof: str
    until: float


class Sessions:
    """Opens sessions for those who know the token.

    Parameters:
        clock: seconds, monotonic.
    """

    def __init__(self, token: str, lasting: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = token.encode()
        self._lasting = lasting.total_seconds()
        self._clock = clock
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Session] = OrderedDict()

    def begin(self, token: str) -> Session | None:
        """A new session, None if the token is wrong. Of too many sessions, the oldest end."""
        if not secrets.compare_digest(token.strip().encode(), self._token):
            return None
        session = Session(secrets.token_urlsafe(32), secrets.token_urlsafe(32), self._clock() + self._lasting)
        with self._lock:
            self._open[session.name] = session
            while len(self._open) > MOST_SESSIONS:
                self._open.popitem(last=False)
        return session

    def find(self, name: str) -> Session | None:
        """The session of this name, if it lasts."""
        with self._lock:
            session = self._open.get(name)
            if session is not None and session.until <= self._clock():
                del self._open[name]
                return None
            return session

    def end(self, name: str) -> None:
        """End one."""
        with self._lock:
            self._open.pop(name, None)
