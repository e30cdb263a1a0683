"""The services that this machine's settings describe, by what a user calls them: service and sink."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.cli.runtime import Session
from headrace.config import StageSettings
from headrace.errors import ConfigError
from headrace.families import Host, StageEntry, stage_named, stages
from headrace.kafka.clients import Cluster
from headrace.observe.health import Health
from headrace.observe.metrics import LOOP_METRICS, Metrics
from headrace.stage.contract import Stage


class NoStage(ConfigError):
    """{section} reads no topics, so it has no consumer group. Name a service that does, such as assembler."""

    code = "no-stage"


class SinkNotFound(ConfigError):
    """No settings here describe the sink {sink} of {service}. Known sinks: {valid}. Or say --set NAME=VALUE."""

    code = "sink-not-found"


class NotAnAssignment(ConfigError):
    """{text!r} is no setting with a value. Say NAME=VALUE, such as root=/data/site."""

    code = "not-an-assignment"


@dataclass(frozen=True)
class Target:
    """A service with its settings and its consumer group; `section` is its place in the settings."""

    section: str
    entry: StageEntry
    settings: StageSettings
    group: str

    def stage(self, session: Session, cluster: Cluster, overrides: Mapping[str, Any]) -> Stage:
        """A new stage of this service, with some settings otherwise.

        Raises InvalidSetting and others of the settings.
        """
        model = self.entry.load_settings()
        own = session.sources.section(self.section, model, overrides).values
        metrics = Metrics([*LOOP_METRICS, *self.entry.load_metrics()])
        host = Host(self.section, session.settings, cluster, Health(), metrics, session.sources, overrides)
        stage = self.entry.load_factory()(own, host)
        if not isinstance(stage, Stage):
            raise NoStage(section=self.section)
        return stage


def assignments(texts: Sequence[str] | None) -> dict[str, str]:
    """The settings that the command line gives as NAME=VALUE.

    Raises NotAnAssignment.
    """
    found = {}
    for text in texts or ():
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise NotAnAssignment(text=text)
        found[name] = value
    return found


def target(session: Session, cluster: Cluster, service: str, sink: str | None, overrides: Mapping[str, Any]) -> Target:
    """The service of that name that fills that sink.

    Raises UnknownService, NoStage, SinkNotFound, and what is wrong with its settings.
    """
    entry = stage_named(service)
    if not issubclass(entry.load_settings(), StageSettings):
        raise NoStage(section=service)
    if sink is None or "." in service:
        return _target(session, cluster, entry, service, overrides)
    known = list(_configured(session, cluster, entry, overrides))
    for each in known:
        if each.settings.sink == sink:
            return each
    try:
        return _target(session, cluster, entry, service, {**overrides, "sink": sink})
    except ConfigError as error:
        valid = ", ".join(each.settings.sink for each in known) or "none"
        raise SinkNotFound(sink=sink, service=service, valid=valid) from error


def configured(session: Session, cluster: Cluster) -> list[Target]:
    """Every service that the settings of this machine describe well enough to run, once for each group."""
    found = {
        each.group: each
        for entry in stages().values()
        if issubclass(entry.load_settings(), StageSettings)
        for each in _configured(session, cluster, entry, {})
    }
    return list(found.values())


def _configured(
    session: Session, cluster: Cluster, entry: StageEntry, overrides: Mapping[str, Any]
) -> Iterator[Target]:
    instances = session.sources.instances(entry.name, entry.load_settings())
    for section in (*(f"{entry.name}.{instance}" for instance in instances), entry.name):
        try:
            yield _target(session, cluster, entry, section, overrides)
        except ConfigError:
            # A section that cannot run as it stands serves no sink either.
            continue


def _target(
    session: Session, cluster: Cluster, entry: StageEntry, section: str, overrides: Mapping[str, Any]
) -> Target:
    own = session.sources.section(section, entry.load_settings(), overrides).values
    if not isinstance(own, StageSettings):
        raise NoStage(section=section)
    return Target(section, entry, own, cluster.group_name(entry.name, own.sink))
