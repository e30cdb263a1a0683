"""Everything that Headrace raises on purpose.

HeadraceError
├── ConfigError      the operator must change a setting or the call; exit 2
├── TransientError   the outside is unwell; wait `retry_after` seconds and try again
├── PermanentError   this item will never work; dead letter
│   ├── PoisonError      it cannot even be decoded
│   └── RefusedError     the destination said no
└── FatalError       our own promise is broken; stop the process, it starts again from its committed offset

One class per failure. The class docstring is the message, filled in from the keyword arguments;
`code` is what dead letters are grouped by. Nobody parses messages.
"""

from __future__ import annotations

import inspect
from typing import ClassVar


class HeadraceError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"

    def __init__(self, **details: object) -> None:
        self.details = details
        template = inspect.cleandoc(type(self).__doc__ or "").replace("\n", " ")
        super().__init__(template.format_map(_Details(details)))


class _Details(dict[str, object]):
    def __missing__(self, key: str) -> str:
        return f"<{key}>"


class ConfigError(HeadraceError):
    """The setting {setting} is wrong: {problem}. {remedy}"""  # noqa: D400 - the remedy is a sentence

    code = "config"


class TransientError(HeadraceError):
    """{what} is unwell: {problem}; trying again in {retry_after} s."""

    code = "transient"
    default_retry_after: ClassVar[float] = 1.0
    steady: ClassVar[bool] = False
    """Whether to try again at the same pace for ever, as with a full buffer that drains by itself."""

    def __init__(self, **details: object) -> None:
        details.setdefault("retry_after", self.default_retry_after)
        super().__init__(**details)

    @property
    def retry_after(self) -> float:
        """Seconds to wait before the next try."""
        return float(str(self.details["retry_after"]))


class PermanentError(HeadraceError):
    """This item can never be handled: {problem}."""

    code = "permanent"


class PoisonError(PermanentError):
    """The message cannot be decoded: {problem}."""

    code = "poison"


class RefusedError(PermanentError):
    """{destination} refused the item: {problem}."""

    code = "refused"


class FatalError(HeadraceError):
    """A promise of Headrace is broken: {problem}; the process ends and starts again from its committed offset."""

    code = "fatal"
