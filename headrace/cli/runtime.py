"""What commands that speak to Kafka need: settings, logs, a cluster; and how a service runs in the foreground."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import structlog
import typer

from headrace.cli.options import Options
from headrace.codec import avro
from headrace.config import ServiceSettings, Settings, Sources, StageSettings, sources
from headrace.errors import TransientError
from headrace.families import Host, ServiceFactory, StageEntry, catalogue, named, stage_named
from headrace.kafka.admin import create_missing, missing
from headrace.kafka.clients import Cluster, MissingTopic
from headrace.kafka.insisting import insist
from headrace.kafka.room import Room
from headrace.observe.health import Health
from headrace.observe.log import configure
from headrace.observe.metrics import LOOP_METRICS, Metrics
from headrace.observe.server import HealthServer
from headrace.stage.contract import BeginAnew, Source, Stage

if TYPE_CHECKING:
    from headrace.broker import EmbeddedBroker

log = structlog.get_logger(__name__)

PARENT_SECONDS = 0.5
# A member that is put out of its group more often than this has a rival with its name, which it must not fight.
MOST_JOINS, JOINS_SECONDS = 4, 300.0
REJOIN_SECONDS = 1.0

Maker = Callable[[Stage | None], Stage]
"""Makes a stage; it is told in whose place the new one comes, if in any."""


@dataclass(frozen=True)
class Session:
    """The settings of one command line."""

    sources: Sources
    settings: Settings
    origins: Mapping[str, str]

    def cluster(self) -> Cluster:
        """The Kafka that is configured, else the embedded one, started."""
        return cluster_from(self.settings)


def begin(context: typer.Context, service: str | None = None) -> Session:
    """Read the settings that the command line asks for, and set up logs on standard error."""
    options = context.find_object(Options) or Options()
    found = sources(options.config)
    resolved = found.settings(options.overrides)
    configure(resolved.values.log, service)
    return Session(found, resolved.values, resolved.origins)


def embedded_broker(settings: Settings) -> EmbeddedBroker:
    """The broker of this machine, which is used where no Kafka is configured; not started."""
    from headrace.broker import EmbeddedBroker  # psutil and more, for those who need it

    own = settings.broker
    return EmbeddedBroker(settings.state / "broker", own.port, heap_mebibytes=own.heap // (1024 * 1024))


def cluster_from(settings: Settings) -> Cluster:
    """The Kafka that is configured, else the embedded one: started if it does not run, its topics created.

    On a Kafka of your own nothing is created: `headrace topics apply` does that.

    Raises KafkaUnreachable if it does not answer within seconds, or the ConfigError that says why it never will.
    """
    if settings.kafka.bootstrap is not None:
        cluster = Cluster(settings.kafka)
        cluster.reach()
        return cluster
    broker = embedded_broker(settings)
    if not broker.status().answering:
        log.info("starting the embedded Kafka", folder=str(settings.state / "broker"))
    broker.start()
    room = Room(broker.layout.root, settings.broker.reserve)
    cluster = Cluster(settings.kafka.model_copy(update={"bootstrap": broker.bootstrap}), room)
    created = create_missing(cluster, catalogue(datasets=settings.datasets.folder), settings.topics)
    if created:
        log.info("topics created", topics=created)
    return cluster


def serve(
    context: typer.Context,
    name: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    with_parent: int | None = None,
    stop: threading.Event | None = None,
    factory: ServiceFactory | None = None,
) -> None:
    """Run one service in the foreground until SIGTERM, SIGINT or `stop`; then it drains.

    Parameters:
        name: its section, such as `assembler` or `assembler.site_b`.
        overrides: settings from the command line; those that are None were not given.
        with_parent: also stop when this process, which started this one, is gone.
        factory: makes the service instead of the family's own, for a command that does more with it.
    """
    session = begin(context, name)
    entry = stage_named(name)
    settings = session.sources.section(name, entry.load_settings(), overrides).values
    with stopping(stop or threading.Event(), with_parent=with_parent) as ending:
        cluster = _reachable(session, entry, ending)
        if cluster is not None:
            run_service(entry, name, session.settings, settings, cluster, ending, factory, session.sources, overrides)


def run_service(
    entry: StageEntry,
    name: str,
    settings: Settings,
    own: ServiceSettings,
    cluster: Cluster,
    stop: threading.Event,
    factory: ServiceFactory | None = None,
    sources: Sources | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> None:
    """Run a service in this thread, with its metrics and health, until `stop` is set and it has drained.

    Raises FatalError if it must end and start again.
    """
    collect_rarely()
    health = Health()
    metrics = Metrics([*(LOOP_METRICS if isinstance(own, StageSettings) else ()), *entry.load_metrics()])
    make = factory or entry.load_factory()
    host = Host(name, settings, cluster, health, metrics, sources, overrides)
    service = make(own, host)
    with ExitStack() as held:
        if own.metrics_port != 0:
            port = 0 if own.metrics_port == "auto" else own.metrics_port
            server = held.enter_context(HealthServer(health, metrics, own.metrics_host, port))
            log.info("metrics and health", url=f"http://{own.metrics_host}:{server.port}/metrics")
        if isinstance(own, StageSettings):
            _run_copies(
                cast("Stage", service),
                lambda before: cast("Stage", make(own, replace(host, before=before))),
                own,
                host,
                stop,
            )
        else:
            health.ready()
            cast("Source", service).run(stop)
    log.info("stopped")


def collect_rarely() -> None:
    """Look for cycles of garbage less often, and not among what was imported.

    Tens of thousands of messages are in hand at once, and hardly any cycles: by the defaults of Python a third of the
    processor went into looking for them (measured with students, whose rows wait for their batch).
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _run_copies(first: Stage, make: Maker, own: StageSettings, host: Host, stop: threading.Event) -> None:
    """Run the members of the group, the first one in this thread. What ends one for good ends all, and is raised."""
    failures: list[BaseException] = []

    def run(stage: Stage) -> None:
        try:
            _run_member(stage, make, own, host, stop)
        except BaseException as error:  # noqa: BLE001 - raised below, in the main thread
            failures.append(error)
            stop.set()

    others = [
        threading.Thread(target=run, args=(make(None),), name=f"copy-{number}") for number in range(1, own.copies)
    ]
    for other in others:
        other.start()
    run(first)
    for other in others:
        other.join()
    if failures:
        raise failures[0]


def _run_member(stage: Stage, make: Maker, own: StageSettings, host: Host, stop: threading.Event) -> None:
    """Run one member; join anew where the stage must, or Kafka took it for its own predecessor, as after a restart."""
    from headrace.stage.commits import Fenced  # a source needs none of these
    from headrace.stage.membership import ConsumerFailed

    joined: deque[float] = deque(maxlen=MOST_JOINS)
    while True:
        try:
            _run_stage(stage, host.settings.state, own, host, stop)
        except (BeginAnew, Fenced, ConsumerFailed) as error:
            joined.append(time.monotonic())
            often = len(joined) == MOST_JOINS and joined[-1] - joined[0] < JOINS_SECONDS
            if often:
                raise
            if stop.wait(REJOIN_SECONDS):
                # Its partitions are somebody else's already: there is nothing to drain.
                return
            log.warning("joining the group anew", problem=str(error))
            successor = _made_anew(stage, make, stop)
            if successor is None:
                return
            stage = successor
        else:
            return


def _made_anew(before: Stage, make: Maker, stop: threading.Event) -> Stage | None:
    """The stage that comes in the place of another, once what it works on is there; None if told to stop before."""
    while not stop.is_set():
        try:
            return make(before)
        except TransientError as error:
            log.warning("waiting to join the group anew", problem=str(error))
            stop.wait(error.retry_after)
    return None


def _run_stage(stage: Stage, state: Path, own: StageSettings, host: Host, stop: threading.Event) -> None:
    from headrace.observe.reporting import Reporting
    from headrace.stage.loop import Loop
    from headrace.stage.slots import Slot

    with Slot(state, host.cluster.group_name(stage.name, own.sink), own.slot) as slot:
        loop = Loop(
            stage,
            host.cluster,
            sink=own.sink,
            session=own.session_timeout.total_seconds(),
            instance=slot.instance,
            middleware=[Reporting(host.metrics, host.health)],
        )
        log.info("started", group=loop.group, kafka=host.cluster.bootstrap)
        loop.run(stop)


@contextmanager
def stopping(stop: threading.Event, *, with_parent: int | None = None) -> Iterator[threading.Event]:
    """Set `stop` at SIGTERM or SIGINT. The second signal ends the process at once.

    Parameters:
        with_parent: also set it when the parent is no longer this process: it may be gone before we have looked.
    """

    def asked(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    before = {number: signal.signal(number, asked) for number in (signal.SIGTERM, signal.SIGINT)}
    if with_parent is not None:
        threading.Thread(target=_watch_parent, args=(with_parent, stop), name="parent", daemon=True).start()
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch_parent(parent: int, stop: threading.Event) -> None:
    while os.getppid() == parent:
        if stop.wait(PARENT_SECONDS):
            return
    log.warning("the supervisor is gone; stopping")
    stop.set()


def _reachable(session: Session, entry: StageEntry, stop: threading.Event) -> Cluster | None:
    """The cluster once it answers: a service that starts before its Kafka waits for it. None if told to stop.

    Raises MissingTopic if one of the service's topics does not exist.
    """
    everything = catalogue(datasets=session.settings.datasets.folder)
    topics = [topic for topic in everything if entry.uses(topic.name)]

    def reach() -> Cluster:
        cluster = session.cluster()
        if absent := missing(cluster, topics):
            raise MissingTopic(topic=absent[0])
        cluster.announce(_written(session, entry))
        return cluster

    return insist(stop, reach)


def _written(session: Session, entry: StageEntry) -> Iterator[Mapping[str, Any]]:
    """The schemas of what the service writes: every event, and the records of datasets among its topics."""
    from headrace.datasets.catalogue import Datasets  # it loads what others need not

    yield from avro.shipped()
    for dataset in Datasets(session.settings.datasets.folder).values():
        if named(dataset.topic.name, entry.writes):
            yield dataset.schema
