"""Settings: `headrace.toml` < environment (`HEADRACE_KAFKA__BOOTSTRAP`) < command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from headrace.config.model import (
    BrokerSettings,
    KafkaSettings,
    LogSettings,
    Section,
    ServiceSettings,
    ServicesSettings,
    Settings,
    StageSettings,
    TopicSettings,
    UpSettings,
    default_state,
)
from headrace.config.sources import Resolved, Sources
from headrace.config.units import Duration, Size, format_duration

__all__ = [
    "BrokerSettings",
    "Duration",
    "KafkaSettings",
    "LogSettings",
    "Resolved",
    "Section",
    "ServiceSettings",
    "ServicesSettings",
    "Settings",
    "Size",
    "Sources",
    "StageSettings",
    "TopicSettings",
    "UpSettings",
    "default_state",
    "format_duration",
    "load",
    "section",
    "sources",
]

Model = TypeVar("Model", bound=Section)


def sources(file: Path | None = None) -> Sources:
    """Everything that is set on this machine; sections that no installed family knows are refused."""
    from headrace.families import families  # the families' settings import this module

    stages = [stage.name for family in families() for stage in family.stages]
    shared = [section.name for family in families() for section in family.sections]
    return Sources.read(file, known=[*stages, *shared])


def load(file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings that all services share.

    Parameters:
        file: the settings file; by default `$HEADRACE_CONFIG`, else `headrace.toml` here, if there is one.
        overrides: values from the command line: `{"kafka": {"bootstrap": "localhost:9092"}}`; None is "not given".

    Raises ConfigError of one kind or another, each with the setting's name, its place, and what is valid.
    """
    return sources(file).settings(overrides).values


def section(found: Sources, name: str, model: type[Model], overrides: Mapping[str, Any] | None = None) -> Model:
    """The settings of one service or instance: `section(sources(), "assembler", AssemblerSettings, {"root": root})`."""
    return found.section(name, model, overrides).values
