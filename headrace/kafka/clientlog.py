"""What librdkafka says of itself, as records of Python's logging instead of lines on standard error."""

from __future__ import annotations

import logging
import re
import time

# The first idempotent producer on a new broker meets this for about a second; it is no error to show a user.
_NORMAL = ("Coordinator load in progress",)


# While Kafka is away each client would say so many times a second.
_SECONDS_BETWEEN_EQUALS = 30.0
_MOST_REMEMBERED = 200
_NUMBERS = re.compile(r"[0-9]+")


class _Filter(logging.Filter):
    """Drops what is normal, and what was said just now; keeps what is of use: broken connections, refusals."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if any(text in message for text in _NORMAL):
            return False
        now = time.monotonic()
        kind = _NUMBERS.sub("#", message)
        if now - self._said.get(kind, -_SECONDS_BETWEEN_EQUALS) < _SECONDS_BETWEEN_EQUALS:
            return False
        if len(self._said) >= _MOST_REMEMBERED:
            self._said.clear()
        self._said[kind] = now
        return True


def client_logger() -> logging.Logger:
    """The logger to hand to a client; its records appear when the client is polled."""
    logger = logging.getLogger("headrace.kafka.client")
    if not logger.filters:
        logger.addFilter(_Filter())
    return logger
