"""Pages from templates. Every value is escaped, and its control characters are shown, whoever wrote the template."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from headrace.proof.report import printable, size_text

HERE = Path(__file__).parent


def environment() -> Environment:
    """The templates of this folder."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"count": count, "rate": rate, "size": size, "time": time_of, "text": text_of, "lasting": lasting}
    return made


def shown(value: Any) -> Any:
    """A value as it may stand on a page: what does not print stands as an escape; markup is our own."""
    if isinstance(value, Markup) or not isinstance(value, str | bytes):
        return "" if value is None else value
    return text_of(value)


def text_of(value: str | bytes) -> str:
    """A name from the network as text."""
    return printable(value.encode("utf-8", "backslashreplace") if isinstance(value, str) else value)


def count(value: int | None) -> str:
    """A number for people."""
    return "?" if value is None else f"{value:,}"


def rate(value: float) -> str:
    """Messages a second for people."""
    if value >= 100:
        return f"{value:,.0f}/s"
    return f"{value:.1f}/s" if value >= 0.05 else "0/s"


def size(value: int | None) -> str:
    """Bytes for people."""
    return "?" if value is None else size_text(value)


def lasting(seconds: float) -> str:
    """A span of time as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def time_of(value: int | None, unit: int = 1_000_000) -> Markup:
    """A moment since the epoch, in `unit`s a second, in this machine's zone."""
    if value is None or value < 0:
        return Markup("&ndash;")
    try:
        moment = datetime.fromtimestamp(value / unit, UTC).astimezone()
    except (ValueError, OverflowError, OSError):
        return escape(str(value))
    machine, people = moment.isoformat(timespec="milliseconds"), moment.strftime("%Y-%m-%d %H:%M:%S")
    return Markup('<time datetime="{}">{}</time>').format(machine, people)
