"""Settings: `headrace.toml` < environment (`HEADRACE_KAFKA__BOOTSTRAP`) < command line."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


def default_state() -> Path:
    """Folder for what must last on this machine: `$HEADRACE_STATE`, else the XDG state folder."""
    if folder := os.environ.get("HEADRACE_STATE"):
        return Path(folder)
    return Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local" / "state")) / "headrace"


class Section(BaseModel):
    """One table of `headrace.toml`: unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(Section):
    """How to reach Kafka, and what our topics are called."""

    bootstrap: str | None = Field(None, description="host:port list; without it the embedded broker is used.")
    prefix: str = Field("headrace.", description="Begins the name of every topic and group.")
    partitions: int = Field(6, description="Partitions of a topic that is created.", ge=1)
    replication: int = Field(1, description="Replicas of a topic that is created.", ge=1)
    properties: dict[str, str] = Field({}, description="Any librdkafka property: TLS, SASL, timeouts.")


class Settings(Section):
    """Everything that is set for this process."""

    kafka: KafkaSettings = KafkaSettings()
    state: Path = Field(default_factory=default_state, description="Folder for what must last on this machine.")
