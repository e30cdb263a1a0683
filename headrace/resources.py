"""Where things lie on this machine: the files shipped with Headrace, the user's cache, the user's state."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent


class ResourceMissing(ConfigError):
    """Headrace's own file {name} is neither in {installed} nor in {checkout}; install Headrace again."""

    code = "resource-missing"


def resource(*parts: str) -> Path:
    """Find a file or folder that is shipped with Headrace, such as `resource("schemas")`.

    A wheel carries `schemas/` and `deploy/` inside the package; in a checkout they lie beside it.

    Raises ResourceMissing if it is in neither place.
    """
    installed = _PACKAGE / "_resources"
    checkout = _PACKAGE.parent
    for root in (installed, checkout):
        found = root.joinpath(*parts)
        if found.exists():
            return found
    raise ResourceMissing(name="/".join(parts), installed=installed, checkout=checkout)


def cache_folder() -> Path:
    """Folder of this user for what can be fetched or built again: `HEADRACE_CACHE`, else the XDG cache.

    Source: XDG Base Directory Specification 0.8.
    """
    return _user_folder("HEADRACE_CACHE", "XDG_CACHE_HOME", ".cache")


def state_folder() -> Path:
    """Folder of this user for what must last between runs: `HEADRACE_STATE`, else the XDG state folder.

    Source: XDG Base Directory Specification 0.8.
    """
    return _user_folder("HEADRACE_STATE", "XDG_STATE_HOME", ".local/state")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; the kernel frees it when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _user_folder(own_variable: str, xdg_variable: str, below_home: str) -> Path:
    own = os.environ.get(own_variable)
    if own:
        return Path(own).absolute()
    xdg = os.environ.get(xdg_variable)
    # The specification says that a relative path in an XDG variable is to be ignored.
    base = Path(xdg) if xdg and Path(xdg).is_absolute() else Path.home() / below_home
    return base / "headrace"
