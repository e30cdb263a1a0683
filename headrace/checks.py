"""What `headrace config check` is made of: looks at the outside that change nothing there."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headrace.errors import HeadraceError


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and how it is."""

    what: str
    well: bool
    detail: str


def attempt(what: str, look: Callable[[], object], detail: str) -> Check:
    """Well, with `detail`, if `look` returns; what a HeadraceError or OSError says if it raises one."""
    try:
        look()
    except (HeadraceError, OSError) as error:
        return Check(what, False, str(error))
    return Check(what, True, detail)


def readable_folder(what: str, path: Path) -> Check:
    """Whether a folder is there and can be read."""
    if not path.is_dir():
        return Check(what, False, f"there is no folder {path}")
    well = os.access(path, os.R_OK | os.X_OK)
    return Check(what, well, f"{path} is {'' if well else 'not '}readable for this user")


def writable_folder(what: str, path: Path) -> Check:
    """Whether a folder can be written to, or could be created where it should be."""
    path = path.absolute()
    nearest = next(parent for parent in (path, *path.parents) if parent.exists())
    if not nearest.is_dir():
        return Check(what, False, f"{nearest} is no folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        return Check(what, False, f"{nearest} is not writable for this user")
    return Check(
        what, True, f"{path} is writable" if nearest == path else f"{path} is not there yet; it can be created"
    )
