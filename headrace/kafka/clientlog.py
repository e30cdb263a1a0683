"""What librdkafka says of itself, as records of Python's logging instead of lines on standard error."""

from __future__ import annotations

import logging

# The first idempotent producer on a new broker meets this for about a second; it is no error to show a user.
_NORMAL = ("Coordinator load in progress",)


class _Filter(logging.Filter):
    """Drops what is normal, and keeps what may be of use to an operator: broken connections, refusals."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return not any(text in message for text in _NORMAL)


def client_logger() -> logging.Logger:
    """The logger to hand to a client; its records appear when the client is polled."""
    logger = logging.getLogger("headrace.kafka.client")
    if not logger.filters:
        logger.addFilter(_Filter())
    return logger
