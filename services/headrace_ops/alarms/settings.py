"""The section `[alarms]`."""

from __future__ import annotations

import zoneinfo
from datetime import time, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from headrace.config import Duration, Section, ServiceSettings, Size


class SourceRule(Section):
    """What is expected of one source, by its name: `[alarms.sources.NAME]`."""

    silent_for: Duration = Field(
        timedelta(hours=24), description="Alarm when no file of it was announced for this long.", gt=timedelta(0)
    )


class JobRule(Section):
    """When jobs must be done, by id or a pattern with `*`: `[alarms.jobs."NAME-*"]`."""

    due: time = Field(description="Time of day by which one such job of the last 24 hours must be balanced: 06:30.")

    @field_validator("due")
    @classmethod
    def _plain(cls, due: time) -> time:
        if due.tzinfo is not None:
            raise ValueError("a time of day without a zone, such as 06:30; the zone is alarms.timezone")
        return due


class AlarmsSettings(ServiceSettings):
    """What to watch, and whom to tell."""

    sources: dict[str, SourceRule] = Field({}, description="Sources that must not be silent, by name.")
    jobs: dict[str, JobRule] = Field({}, description="Jobs that must be balanced by a time of day, by id or pattern.")
    timezone: str | None = Field(
        None, description="Time zone of those times, such as Europe/Berlin; by default that of this machine."
    )
    dead_letter_share: float = Field(
        0.01, description="Alarm when more than this share of what a service handled was put aside.", ge=0, lt=1
    )
    dead_letter_window: Duration = Field(
        timedelta(minutes=10),
        description="The time over which that share is taken.",
        ge=timedelta(seconds=1),
        le=timedelta(days=7),
    )
    retention_share: float = Field(
        0.5,
        description="Alarm when what a service still needs is past this share of the retention, by age or by size.",
        gt=0,
        le=1,
    )
    disks: list[Path] = Field([], description="Folders whose disks are watched; by default the state folder's.")
    disk_free: Size = Field(5 * 1024**3, description="Alarm when a disk has less free space than this.", ge=0)
    failed_after: Duration = Field(
        timedelta(minutes=5),
        description="A file has failed for good when its source did not offer it again for this long.",
        ge=timedelta(0),
    )
    failed_for: Duration = Field(
        timedelta(hours=24), description="How long a file that failed for good is told of.", ge=timedelta(minutes=1)
    )
    check_every: Duration = Field(
        timedelta(seconds=15), description="Time between two looks.", ge=timedelta(milliseconds=100)
    )
    webhook: SecretStr | None = Field(
        None, description="URL that alarms are posted to as JSON; a secret, since such URLs often are."
    )
    webhook_timeout: Duration = Field(
        timedelta(seconds=10), description="Patience with one request.", ge=timedelta(milliseconds=100)
    )
    webhook_patience: Duration = Field(
        timedelta(hours=1), description="A notice that could not be delivered for this long is given up."
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                zoneinfo.ZoneInfo(name)
            except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
                raise ValueError("no such time zone; names are like Europe/Berlin") from error
        return name

    @field_validator("webhook")
    @classmethod
    def _a_web_address(cls, url: SecretStr | None) -> SecretStr | None:
        parts = urlsplit(url.get_secret_value()) if url is not None else None
        if parts is not None and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("it must be an http:// or https:// URL")
        return url
