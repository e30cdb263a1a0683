"""The copies of services that a command runs for as long as its job lasts. Source: design section 4, Jobs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from headrace.cli.options import Options
from headrace.cli.runtime import Session
from headrace.config import StageSettings
from headrace.config.errors import InvalidSetting
from headrace.config.validation import variable_name
from headrace.errors import ConfigError
from headrace.families import stage_named
from headrace.kafka.clients import Cluster
from headrace.supervisor import Supervisor

LEDGER = "ledger"


class NoGroup(ConfigError):
    """{section} does not read files, so no job can wait for it. Name services that do: assembler, archiver."""

    code = "no-group"


@contextmanager
def own_copies(
    context: typer.Context,
    session: Session,
    services: Sequence[str],
    output: Path,
    refused: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Run these services and a ledger in processes of their own, unless the settings say that they run elsewhere.

    They share their groups with all other copies, so several commands at once help each other.

    Parameters:
        output: file that they write their logs to.
        refused: told of one that ended since it is set wrongly, in another thread.
    """
    if session.settings.services.external:
        yield
        return
    options = context.find_object(Options) or Options()
    chosen = [*services, LEDGER]
    stop = threading.Event()

    def command(name: str) -> Sequence[str]:
        return [sys.executable, "-m", "headrace", *options.arguments, "run", name, "--with-parent", str(os.getpid())]

    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("ab") as log:
        supervisor = Supervisor(
            chosen,
            command,
            session.settings.up,
            # A port that the settings fix belongs to the copy that always runs.
            environment={variable_name(name, "metrics_port"): "0" for name in chosen},
            output=log.fileno(),
            refused=refused,
        )
        thread = threading.Thread(target=supervisor.run, args=(stop,), name="copies")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def groups_of(session: Session, cluster: Cluster, services: Sequence[str]) -> tuple[str, ...]:
    """The consumer groups of services: sections of the settings, or `service.sink` where they run elsewhere.

    Raises UnknownService, NoGroup, or what is wrong with a section's settings.
    """
    return tuple(dict.fromkeys(_group_of(session, cluster, name) for name in services))


def _group_of(session: Session, cluster: Cluster, name: str) -> str:
    entry = stage_named(name)
    model = entry.load_settings()
    if not issubclass(model, StageSettings):
        raise NoGroup(section=name)
    service, _, sink = name.partition(".")
    if session.settings.services.external and sink and sink not in session.sources.instances(service, model):
        return cluster.group_name(service, sink)
    settings = session.sources.section(name, model).values
    if not isinstance(settings, StageSettings):
        raise InvalidSetting(setting=name, where="command line", problem="it has no sink")
    return cluster.group_name(service, settings.sink)
