"""In which line of a TOML text a key stands, for messages that say where a setting was set."""

from __future__ import annotations

import re

Place = tuple[str, ...]
"""A key by its tables: `("assembler", "site_b", "root")`."""

_TABLE = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?")
_ASSIGNMENT = re.compile(r"""\s*(?:"([^"]+)"|'([^']+)'|([A-Za-z0-9_.-]+))\s*=""")


def lines_of(text: str) -> dict[Place, int]:
    """The line of each key of a TOML text. Only for messages: a multi-line string may mislead it."""
    lines: dict[Place, int] = {}
    table: Place = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _TABLE.fullmatch(line):
            table = tuple(part.strip().strip("\"'") for part in header[1].split("."))
            lines.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            key = next(group for group in assignment.groups() if group)
            lines.setdefault((*table, key), number)
    return lines
