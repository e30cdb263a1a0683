"""Settings of the archiver."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from headrace.config import Duration, Size, StageSettings
from headrace.objects.settings import BucketSettings
from headrace.objects.store import SMALLEST_PART
from headrace_files.archiver.naming import DEFAULT_TEMPLATE, Naming, WrongTemplate

MEBIBYTE = 1024 * 1024

_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9._-]+")


class ArchiverSettings(BucketSettings, StageSettings):
    """What the archiver needs to know."""

    sink: str = Field(
        "",
        pattern=r"^[a-zA-Z0-9._-]{1,100}$",
        description="Name of this destination: its copies share the work, other sinks get everything as well."
        " By default it is made of bucket and prefix.",
    )
    template: str = Field(
        DEFAULT_TEMPLATE,
        description="Name of an object after the prefix; {date} is the UTC date of the file's mtime.",
    )
    create_bucket: bool = Field(False, description="Create the bucket if it does not exist.")
    part_size: Size = Field(
        8 * MEBIBYTE,
        ge=SMALLEST_PART,
        description="Bytes of a part of a large object, doubled every 1,000 parts; smaller files go in one request.",
    )
    buffer: Size = Field(
        128 * MEBIBYTE,
        ge=32 * MEBIBYTE,
        description="Most bytes held in memory over all open files; half of it for parts that are not full yet.",
    )
    uploads: int = Field(12, ge=1, le=256, description="Requests to the object store at the same time.")
    spool: Path | None = Field(
        None, description="Folder for parts that memory has no room for; by default the system's temporary folder."
    )
    algorithms: tuple[Literal["sha256", "sha512", "blake2b"], ...] = Field(
        ("sha256",),
        description="Hashes to compute while a file comes. Add what your senders use beside sha256, which is always"
        " computed: each costs time, and a large file with another hash is not archived, since it cannot be verified.",
    )
    incomplete_after: Duration = Field(
        timedelta(hours=24), description="Close a file as failed when no frame of it came for this long (log time)."
    )

    @model_validator(mode="before")
    @classmethod
    def _name_the_sink(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("sink") and isinstance(values.get("bucket"), str):
            place = f"{values['bucket']}.{values.get('prefix') or ''}".strip("./")
            return values | {"sink": _NOT_IN_A_NAME.sub(".", place)[:100]}
        return values

    @field_validator("template")
    @classmethod
    def _usable(cls, template: str) -> str:
        try:
            Naming(template)
        except WrongTemplate as error:
            raise ValueError(f"{error.details['problem']}; the usual one is {DEFAULT_TEMPLATE}") from error
        return template
