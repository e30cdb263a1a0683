"""Durations and sizes as people write them: `"90s"`, `"24h"`, `"64MiB"`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    "": 1, "B": 1,
    "k": 1000, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4,
    "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4,
}  # fmt: skip
_NUMBER_AND_UNIT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_duration(value: object) -> object:
    """Turn `"1.5h"` or a number of seconds into a timedelta; anything else is left to pydantic (ISO 8601).

    Raises ValueError for a unit that is none of ms, s, m, h, d.
    """
    if isinstance(value, str) and (match := _NUMBER_AND_UNIT.fullmatch(value)):
        number, unit = match.groups()
        if (unit or "s") not in _SECONDS:
            raise ValueError(f"the unit {unit!r} is none of {', '.join(_SECONDS)}")
        return timedelta(seconds=float(number) * _SECONDS[unit or "s"])
    return value


def parse_size(value: object) -> object:
    """Turn `"64MiB"` into a number of bytes; numbers are bytes already.

    Raises ValueError for an unknown unit.
    """
    if isinstance(value, str) and (match := _NUMBER_AND_UNIT.fullmatch(value)):
        number, unit = match.groups()
        if unit not in _BYTES:
            raise ValueError(f"the unit {unit!r} is none of {', '.join(name for name in _BYTES if name)}")
        return int(float(number) * _BYTES[unit])
    return value


def format_duration(value: timedelta) -> str:
    """The shortest form that `parse_duration` reads back, such as `24h`."""
    seconds = value.total_seconds()
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{seconds:g}s" if seconds >= 1 or not seconds else f"{seconds * 1000:g}ms"


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
"""A time span in a settings model: `"90s"`, `"15m"`, `"24h"`, `"7d"`, or a number of seconds."""

Size = Annotated[int, BeforeValidator(parse_size)]
"""A number of bytes in a settings model: `262144`, `"256KiB"`, `"64MiB"`, `"10GB"`."""
