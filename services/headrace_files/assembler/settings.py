"""Settings of the assembler."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field

from headrace.config import Duration, StageSettings


class AssemblerSettings(StageSettings):
    """What the assembler needs to know."""

    root: Path = Field(description="Folder that the files are rebuilt in; created if it is missing.")
    sink: str = Field(
        "files",
        pattern=r"^[a-zA-Z0-9._-]{1,100}$",
        description="Name of this tree: its copies share the work, other sinks get everything as well.",
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
