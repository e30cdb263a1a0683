"""Settings of the fan-out."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

from pydantic import Field, field_validator

from headrace.config import Duration, Size, StageSettings

GIBIBYTE = 1024**3


class CsvFanoutSettings(StageSettings):
    """What the fan-out needs to know."""

    sink: str = Field(
        "records",
        pattern=r"^[a-zA-Z0-9._-]{1,100}$",
        description="Name of this fan-out: its copies share the work. Two that publish the same dataset publish twice.",
    )
    datasets: list[str] = Field(
        [], description="Publish only these datasets, and leave files of others alone. Empty: all that are declared."
    )
    paths: dict[str, str] = Field(
        {},
        description="For files that name no dataset: a regular expression by dataset; a file whose path it is found in"
        " belongs to it. Files of personal datasets should name theirs, see docs/explanation/personal-data.md.",
    )
    spool: Path | None = Field(
        None, description="Folder for files on their way; by default the system's temporary folder. Needs no care."
    )
    spool_size: Size = Field(
        20 * GIBIBYTE, ge=1, description="Bytes that files on their way may take there; a larger file is refused."
    )
    largest_content: Size = Field(
        100 * GIBIBYTE, ge=1, description="Bytes that an archive may hold; a larger one is refused."
    )
    allow_shrink: bool = Field(
        False, description="Publish a file even if it has far fewer rows than the last one of its dataset and source."
    )
    incomplete_after: Duration = Field(
        timedelta(hours=24), description="Close a file as failed when no frame of it came for this long (log time)."
    )

    @field_validator("paths")
    @classmethod
    def _patterns_compile(cls, paths: dict[str, str]) -> dict[str, str]:
        for dataset, pattern in paths.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{dataset}: {pattern!r} is no regular expression: {error}") from error
        return paths
