"""Which files of a folder are sent."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

OWN_FOLDER = b".headrace"


class Filter:
    r"""Decides by the path relative to the watched folder.

    Patterns are searched for anywhere in the path: `\.csv$`, `^raw/`. A dot matches line breaks too, and bytes that
    are no UTF-8 stand as surrogates, so any name can be matched. Names that begin with a dot are sent like others,
    unlike in OpenMSIStream, which leaves them out without a word; `exclude = ["(^|/)\."]` does the same.
    """

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self._include = [re.compile(pattern, re.DOTALL) for pattern in include]
        self._exclude = [re.compile(pattern, re.DOTALL) for pattern in exclude]

    def takes(self, path: bytes) -> bool:
        """Whether the file at `path` is sent."""
        if not self._include and not self._exclude:
            return True
        text = os.fsdecode(path)
        if self._include and not any(pattern.search(text) for pattern in self._include):
            return False
        return not any(pattern.search(text) for pattern in self._exclude)


def is_own(path: bytes) -> bool:
    """Whether `path` lies in a folder that Headrace keeps for itself."""
    return OWN_FOLDER in path.split(b"/")
