"""Families: what packages bring services, found through one entry-point group, so that the spine imports none by name.

A family's module is light: it names its stages and commands as `"module:attribute"`, imported when they are used.
Source: design section 2.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from headrace.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.checks import Check
    from headrace.config import Section, ServiceSettings, Settings, Sources
    from headrace.demonstration import Scene
    from headrace.kafka.clients import Cluster
    from headrace.observe.health import Health
    from headrace.observe.metrics import MetricEntry, Metrics
    from headrace.pages import Page
    from headrace.sending_once import SendOnce
    from headrace.stage.contract import Source, Stage
    from headrace.topics import Topic

GROUP = "headrace.families"

OwnSettings = TypeVar("OwnSettings", bound="ServiceSettings")


class UnknownService(ConfigError):
    """There is no service {name}. Known services: {valid}."""

    code = "unknown-service"


class BrokenFamily(ConfigError):
    """The family {name} cannot be loaded from {value}: {problem}. Install its package again, or remove it."""

    code = "broken-family"


@dataclass(frozen=True)
class Host:
    """What a service finds around it. `name` is its section: `assembler`, or `assembler.site_b` for an instance.

    `overrides` are its settings from the command line. `before` is the stage in whose place it comes, where one joins
    its group anew in the same process.
    """

    name: str
    settings: Settings
    cluster: Cluster
    health: Health
    metrics: Metrics
    sources: Sources | None = None
    overrides: Mapping[str, Any] | None = None
    before: Stage | None = None

    def again(self, own: OwnSettings) -> OwnSettings:
        """The service's settings as they are now, its secrets read again.

        Raises what is wrong with them.
        """
        from headrace.config import sources

        found = sources(None if self.sources is None else self.sources.file)
        return found.section(self.name, type(own), self.overrides).values

    def shared(self, name: str) -> Any:
        """The settings of a section that the family's services share.

        Raises what is wrong with them.
        """
        from headrace.config import sources

        found = self.sources if self.sources is not None else sources(None)
        return found.section(name, sections()[name].load_settings()).values


class ServiceFactory(Protocol):
    """Makes the service from its settings; it must not touch the outside yet.

    What it raises that is transient while a stage joins its group anew is waited for.
    """

    def __call__(self, settings: Any, host: Host) -> Stage | Source:
        """The stage or source, ready to run."""


@dataclass(frozen=True)
class StageEntry:
    """One service of a family.

    `settings` and `factory` are `"module:attribute"`: a subclass of ServiceSettings (StageSettings, where it reads
    topics through the loop), and a ServiceFactory; `metrics` a sequence of MetricEntry, if it has metrics of its own;
    `check` takes the settings and yields a Check for each thing outside that the service is to use, changing nothing.
    `reads` and `writes` are names of topics in the catalogue; `records.*` means those of all datasets. `destination` is
    the setting that says where it writes: a replay into another place changes that one. `send_once` is a SendOnce, of a
    source that sends single files on request. `duties` are tasks beside its own work for which it needs access to more
    of Kafka, see `headrace.kafka.access.DUTIES`. `foreign` is the setting that names a topic of somebody else that it
    reads; such a topic has its name as it is, without our prefix. `datasets_unless` is for a stage that has to do with
    files of datasets only: the setting that makes it take others as well.
    """

    name: str
    purpose: str
    settings: str
    factory: str
    reads: Sequence[str] = ()
    writes: Sequence[str] = ()
    metrics: str | None = None
    check: str | None = None
    destination: str | None = None
    send_once: str | None = None
    duties: Sequence[str] = ()
    foreign: str | None = None
    datasets_unless: str | None = None

    def uses(self, topic: str) -> bool:
        """Whether it reads or writes the topic of that name."""
        return named(topic, self.reads) or named(topic, self.writes)

    def load_settings(self) -> type[ServiceSettings]:
        """The model of its section."""
        model: type[ServiceSettings] = load(self.settings)
        return model

    def load_factory(self) -> ServiceFactory:
        """What makes the service."""
        factory: ServiceFactory = load(self.factory)
        return factory

    def run_check(self, settings: ServiceSettings) -> Iterable[Check]:
        """Look at what the service is to use."""
        checks: Iterable[Check] = () if self.check is None else load(self.check)(settings)
        return checks

    def load_send_once(self) -> SendOnce:
        """What sends single files on request."""
        if self.send_once is None:
            raise ValueError(f"{self.name} sends nothing on request")
        send_once: SendOnce = load(self.send_once)
        return send_once

    def load_metrics(self) -> Sequence[MetricEntry]:
        """The metrics that only this service has."""
        entries: Sequence[MetricEntry] = () if self.metrics is None else load(self.metrics)
        return entries


@dataclass(frozen=True)
class SectionEntry:
    """Settings that several services and commands of a family share, as a section of their own.

    `settings` is the `"module:attribute"` of a Section; `check` as for a StageEntry.
    """

    name: str
    purpose: str
    settings: str
    check: str | None = None

    def load_settings(self) -> type[Section]:
        """The model of the section."""
        model: type[Section] = load(self.settings)
        return model

    def run_check(self, settings: Section) -> Iterable[Check]:
        """Look at what the settings name."""
        checks: Iterable[Check] = () if self.check is None else load(self.check)(settings)
        return checks


@dataclass(frozen=True)
class CommandEntry:
    """One command of the command line: `load` is `"module:attribute"`, a typer app or a function; `help` one line."""

    name: str
    load: str
    help: str


@dataclass(frozen=True)
class DemoEntry:
    """A part of `headrace demo`: `load` is the `"module:attribute"` of a function that plays it on a Scene.

    It returns an exit code, 0 where everything is as it should be.
    """

    name: str
    load: str
    help: str

    def run(self, scene: Scene) -> int:
        """Play it."""
        code: int = load(self.load)(scene)
        return code


@dataclass(frozen=True)
class PageEntry:
    """A page of the console: `load` is the `"module:attribute"` of a Page, `name` its place in addresses."""

    name: str
    title: str
    load: str

    def load_page(self) -> Page:
        """The page."""
        page: Page = load(self.load)
        return page


@dataclass(frozen=True)
class Family:
    """What a package brings: stages, topics of its own, commands, pages, and stand-ins for the outside systems.

    `topics` may be the `"module:attribute"` of a sequence of them.
    """

    name: str
    stages: Sequence[StageEntry] = ()
    topics: Sequence[Topic] | str = ()
    commands: Sequence[CommandEntry] = ()
    sections: Sequence[SectionEntry] = ()
    sandbox: Sequence[CommandEntry] = field(default=())
    demos: Sequence[DemoEntry] = ()
    pages: Sequence[PageEntry] = ()


def _topics(family: Family) -> Sequence[Topic]:
    topics: Sequence[Topic] = load(family.topics) if isinstance(family.topics, str) else family.topics
    return topics


def named(topic: str, names: Sequence[str]) -> bool:
    """Whether a topic is among `names`, of which some may be patterns: `records.*`."""
    return any(fnmatchcase(topic, name) for name in names)


def load(reference: str) -> Any:
    """The object that `"module:attribute"` names."""
    module, _, attribute = reference.partition(":")
    return getattr(importlib.import_module(module), attribute)


@cache
def families() -> tuple[Family, ...]:
    """All installed families, by name.

    Raises BrokenFamily if one cannot be imported.
    """
    found = []
    for point in sorted(entry_points(group=GROUP), key=lambda each: each.name):
        try:
            found.append(point.load())
        except (ImportError, AttributeError) as error:
            raise BrokenFamily(name=point.name, value=point.value, problem=error) from error
    return tuple(found)


def stages() -> dict[str, StageEntry]:
    """All services of all families, by name."""
    return {stage.name: stage for family in families() for stage in family.stages}


def sections() -> dict[str, SectionEntry]:
    """All sections that belong to no single service, by name."""
    return {section.name: section for family in families() for section in family.sections}


def demos() -> dict[str, DemoEntry]:
    """All parts of the demonstration, by name."""
    found = [demo for family in families() for demo in family.demos]
    return {demo.name: demo for demo in sorted(found, key=lambda demo: demo.name)}


def pages() -> dict[str, PageEntry]:
    """All pages that families offer to the console, by name."""
    return {page.name: page for family in families() for page in family.pages}


def configured(sources: Sources, of: Iterable[StageEntry]) -> Iterator[tuple[StageEntry, ServiceSettings]]:
    """Services with the settings of each of their instances; one that cannot run as it stands does nothing."""
    for stage in of:
        name, model = stage.name, stage.load_settings()
        for instance in ("", *sources.instances(name, model)):
            try:
                values = sources.section(f"{name}.{instance}" if instance else name, model).values
            except ConfigError:
                continue
            yield stage, values


def stage_named(section: str) -> StageEntry:
    """The service of a section: `assembler` for `assembler.site_b`.

    Raises UnknownService with the list of those that are known.
    """
    known = stages()
    name = section.partition(".")[0]
    if name not in known:
        raise UnknownService(name=name, valid=", ".join(sorted(known)) or "none")
    return known[name]


def catalogue(of: Iterable[Family] | None = None, datasets: Path | None = None) -> tuple[Topic, ...]:
    """Every topic: the spine's, those that families bring, and one for each dataset.

    Parameters:
        datasets: folder of the user's own declarations, the setting `datasets.folder`.

    Raises DatasetMalformed or DatasetTwice.
    """
    from headrace.datasets.catalogue import Datasets  # these load what the command line's help needs not
    from headrace.topics import SPINE

    own = [topic for family in (families() if of is None else of) for topic in _topics(family)]
    return (*SPINE, *own, *(dataset.topic for dataset in Datasets(datasets).values()))
