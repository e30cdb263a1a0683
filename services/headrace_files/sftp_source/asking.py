"""What a command of another family wants of the files that it has this source fetch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headrace.errors import ConfigError


class NoPlaceForCopy(ConfigError):
    """The copy of what was fetched cannot be written to {path}: {problem}."""

    code = "no-place-for-copy"


@dataclass(frozen=True, slots=True)
class Asked:
    """See `headrace.sending_once`.

    Parameters:
        known: the versions that are on the log under the job; another one's do not count.
    """

    known: frozenset[bytes] = frozenset()
    meta: Mapping[str, str] = field(default_factory=dict)
    keep: Path | None = None
    restart_at: int | None = None
    publish: bool = True

    def knows(self, file: bytes) -> bool:
        """Whether a version need not be sent."""
        return file in self.known


def keep(place: Path, copy: Path) -> None:
    """Put a copy of a whole file where it was asked for, readable by its owner only. Raises NoPlaceForCopy."""
    new = copy.with_name(f".{copy.name}.part")
    try:
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as out, place.open("rb") as content:
            shutil.copyfileobj(content, out, 1024 * 1024)
        new.replace(copy)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise NoPlaceForCopy(path=copy, problem=error.strerror) from error
