"""What is fetched today, and what it is called on the log. Pure: the time is a parameter."""

from __future__ import annotations

import posixpath
from datetime import date


def remote_path(pattern: str, day: date) -> str:
    """The path on the server: strftime's parts stand for those of `day`. Source: reference art 1.4."""
    return day.strftime(pattern) if "%" in pattern else pattern


def log_path(remote: str) -> bytes:
    """The name on the log: relative, without what means nothing."""
    return posixpath.normpath("/" + remote).lstrip("/").encode("utf-8", "surrogateescape")
