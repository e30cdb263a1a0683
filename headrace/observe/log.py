"""Structured logs on standard error: for people on a terminal, JSON lines for machines. Secrets never get there."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import structlog
from pydantic import SecretBytes, SecretStr
from structlog.typing import EventDict, Processor, WrappedLogger

from headrace.config import LogSettings

HIDDEN = "**********"

_SECRET_NAME = re.compile(
    r"passw|secret|token|credential|authorization|api_?key|access_?key|private_?key", re.IGNORECASE
)
_USER_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Hide what is secret by its type, by its name, or in a URL; what identifies a record comes first."""
    first = {name: event.pop(name) for name in ("timestamp", "level", "service", "event") if name in event}
    return first | {name: hide(value, name) for name, value in event.items()}


def hide(value: Any, name: str = "") -> Any:
    """`value` as it may be shown under `name`."""
    if isinstance(value, SecretStr | SecretBytes) or (value is not None and _SECRET_NAME.search(name)):
        return HIDDEN
    if isinstance(value, str):
        return _USER_IN_URL.sub(HIDDEN + "@", value)
    if isinstance(value, Mapping):
        return {key: hide(item, str(key)) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [hide(item) for item in value]
    return value


def configure(settings: LogSettings, service: str | None = None, stream: TextIO | None = None) -> None:
    """Set up logging of this process; libraries' own records (warnings and worse) come the same way.

    Parameters:
        service: stands in every record; several services may write into one stream.
        stream: by default standard error.
    """
    out = stream or sys.stderr
    as_json = settings.format == "json" or (settings.format == "auto" and not out.isatty())
    level = logging.getLevelName(settings.level.upper())

    def name_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        # No context variable: records of other threads bear the name, too.
        if service is not None:
            event.setdefault("service", service)
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        name_service,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json),
        redact,
    ]
    last: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=out.isatty())]
    )
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[remove, *last]))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
