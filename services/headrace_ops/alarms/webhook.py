"""Telling somebody over HTTP: notices are posted as JSON by a thread of their own, in order, and tried again."""

from __future__ import annotations

import http.client
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import urlsplit

import orjson
import structlog

from headrace import __version__
from headrace_ops.alarms.board import Notice

WAITING = 1000
"""Notices that wait at most; the oldest go first."""
FIRST_WAIT = 1.0
LONGEST_WAIT = 60.0
REFUSED_FOR_GOOD = range(400, 500)
TRY_AGAIN = frozenset({408, 425, 429})

Result = Callable[[str], None]

log = structlog.get_logger(__name__)


def body_of(notice: Notice) -> bytes:
    """The JSON object that is posted."""
    alarm = notice.alarm
    return orjson.dumps(
        {
            "event": notice.event,
            "alarm": alarm.kind,
            "about": alarm.about,
            "message": alarm.message,
            "since": notice.since.isoformat(timespec="seconds"),
            "at": notice.at.isoformat(timespec="seconds"),
        }
    )


class Webhook:
    """Posts notices to one URL. `tell` never blocks.

    Parameters:
        url: http or https; it may be a secret, so it is never logged.
        timeout: of one request; `patience`: a notice is given up when it could not be delivered for so long.
        result: told of each notice what became of it: delivered, given-up, refused, or overtaken by too many others.
        first_wait: seconds before the second try; it doubles up to a minute.
    """

    def __init__(
        self, url: str, timeout: timedelta, patience: timedelta, result: Result, first_wait: float = FIRST_WAIT
    ) -> None:
        parts = urlsplit(url)
        self._host, self._secure = parts.netloc.rpartition("@")[2], parts.scheme == "https"
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._timeout = timeout.total_seconds()
        self._patience = patience.total_seconds()
        self._result = result
        self._first_wait = first_wait
        self._waiting: deque[Notice] = deque()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def tell(self, notice: Notice) -> None:
        """Post it when its turn comes."""
        with self._changed:
            if len(self._waiting) >= WAITING:
                self._waiting.popleft()
                self._result("overtaken")
            self._waiting.append(notice)
            self._changed.notify()

    def close(self, seconds: float = 2.0) -> None:
        """Stop; what is being posted may end."""
        self._stopping.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._stopping.is_set():
                    self._changed.wait()
                if not self._waiting:
                    return
                notice = self._waiting.popleft()
            self._deliver(notice)

    def _deliver(self, notice: Notice) -> None:
        body, deadline, wait = body_of(notice), time.monotonic() + self._patience, self._first_wait
        while True:
            problem, again = self._post(body)
            if problem is None:
                self._result("delivered")
                return
            if not again or time.monotonic() + wait > deadline or self._stopping.is_set():
                log.error("a notice could not be delivered", alarm=notice.alarm.kind, problem=problem)
                self._result("given-up" if again else "refused")
                return
            log.warning("the webhook does not answer; trying again", problem=problem, seconds=wait)
            self._stopping.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    def _post(self, body: bytes) -> tuple[str | None, bool]:
        """What was wrong, None if nothing, and whether it may go better later."""
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        headers = {"Content-Type": "application/json", "User-Agent": f"headrace/{__version__}"}
        try:
            connection = kind(self._host, timeout=self._timeout)
            try:
                connection.request("POST", self._path, body, headers)
                status = connection.getresponse().status
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__, True
        if 200 <= status < 300:
            return None, False
        return f"it answers {status}", status not in REFUSED_FOR_GOOD or status in TRY_AGAIN
