"""What is said on the command line before the command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Options:
    """The options of `headrace` itself; None was not given."""

    config: Path | None = None
    bootstrap: str | None = None
    log_level: str | None = None
    debug: bool = False

    @property
    def overrides(self) -> Mapping[str, Any]:
        """The settings that they stand for."""
        return {"kafka": {"bootstrap": self.bootstrap}, "log": {"level": self.log_level}}

    @property
    def arguments(self) -> list[str]:
        """The same options for another process."""
        pairs = (("--config", self.config), ("--bootstrap", self.bootstrap), ("--log-level", self.log_level))
        return [part for name, value in pairs if value is not None for part in (name, str(value))]
