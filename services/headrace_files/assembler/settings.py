"""Settings of the assembler."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from headrace.config import Duration, StageSettings

_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9._-]+")


class AssemblerSettings(StageSettings):
    """What the assembler needs to know."""

    root: Path = Field(description="Folder that the files are rebuilt in; created if it is missing.")
    sink: str = Field(
        "",
        pattern=r"^[a-zA-Z0-9._-]{1,100}$",
        description="Name of this tree: its copies share the work, other sinks get everything as well. By default made"
        " of the host and the folder, so that two trees never share a name by accident.",
    )
    layout: Literal["{path}", "{source}/{path}"] = Field(
        "{path}", description="Where a file goes under the root; with several sources keep their names apart."
    )
    incomplete_after: Duration = Field(
        timedelta(hours=24), description="Close a file as failed when no frame of it came for this long (log time)."
    )
    restore_mode: bool = Field(False, description="Give files the permission bits that they had at the source.")
    device_names: Literal["refuse", "allow"] = Field(
        "refuse", description="Whether names that mean devices on Windows, such as CON or LPT1.txt, are dead letters."
    )

    @model_validator(mode="before")
    @classmethod
    def _name_the_sink(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("sink") and values.get("root"):
            root = Path(values["root"]).absolute()
            mark = hashlib.blake2b(os.fsencode(root), digest_size=4).hexdigest()
            name = _NOT_IN_A_NAME.sub("-", f"{platform.node()}-{root.name}")[:80]
            return values | {"sink": f"{name}-{mark}"}
        return values
