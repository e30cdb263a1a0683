"""The section `[directory_source]`."""

from __future__ import annotations

import platform
import re
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from headrace.chunks.frames import DEFAULT_CHUNK
from headrace.config import Duration, ServiceSettings, Size


class DirectorySourceSettings(ServiceSettings):
    """What is watched, what of it is sent, and how."""

    root: Path = Field(description="Folder to watch, subfolders included.")
    source: str = Field(
        default_factory=platform.node,
        description="Name of this sender on the log; one process at a time uses it. Default: the host's name.",
        pattern=r"^[^/\x00-\x1f]{1,200}$",
    )
    include: list[str] = Field(
        [], description="Regular expressions; a file is sent if one of them is found in its relative path. Empty: all."
    )
    exclude: list[str] = Field(
        [], description="Regular expressions; a file is not sent if one of them is found in its relative path."
    )
    new_only: bool = Field(
        False, description="Leave out the files that are there at the start, unless they are begun already."
    )
    settle: Duration = Field(
        timedelta(seconds=3), description="A file is taken when size and mtime have been still for this long."
    )
    scan_every: Duration = Field(
        timedelta(seconds=60),
        description="Time between two scans of the whole tree, which find what file system events have missed.",
        gt=timedelta(0),
    )
    polling: bool = Field(
        False, description="Use no file system events but only scans: for network mounts, which send none."
    )
    poll_every: Duration = Field(
        timedelta(seconds=5), description="Time between two scans with `polling`.", gt=timedelta(0)
    )
    inodes: bool = Field(
        True,
        description="Whether a new inode means a new version. Turn it off on mounts that number files anew each time.",
    )
    threads: int = Field(3, description="Files read in parallel.", ge=1, le=64)
    chunk_size: Size = Field(
        DEFAULT_CHUNK, description="Bytes of a frame: a power of two from 4 KiB to what the topic allows."
    )
    queue_messages: int = Field(
        3000, description="Messages that may be under way to Kafka; their bytes are bounded too, at 24 MiB.", ge=1
    )
    attempts: int = Field(
        3, description="How often a version is offered again after a receiver said that it failed.", ge=0, le=1000
    )
    drain: Duration = Field(
        timedelta(seconds=8), description="After SIGTERM, time for files that are begun; then they stop half-way."
    )
    dataset: str | None = Field(None, description="Name of the dataset that the files belong to, for `csv_fanout`.")
    format: Literal["headrace", "openmsi", "openmsi-9"] = Field(
        "headrace",
        description="Layout to send in: our own, or that of OpenMSIStream for its readers (-9: of before April 2026).",
    )
    topic: str | None = Field(
        None,
        description="Topic of OpenMSIStream to send to, its name as it is; only with such a format.",
        pattern=r"^[a-zA-Z0-9._-]{1,249}$",
    )

    @field_validator("include", "exclude")
    @classmethod
    def _patterns_compile(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return patterns
