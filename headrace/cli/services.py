"""`headrace run` and `headrace up`: one service, or those of one machine."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from headrace.cli import runtime
from headrace.cli.options import Options
from headrace.cli.runtime import Session
from headrace.config.errors import InvalidSetting
from headrace.errors import ConfigError, HeadraceError, TransientError
from headrace.families import stage_named
from headrace.supervisor import Supervisor

if TYPE_CHECKING:
    from headrace.broker import EmbeddedBroker

log = structlog.get_logger(__name__)


class NothingToRun(ConfigError):
    """No service is chosen. Name them after `headrace up`, or as services = […] under [up] in headrace.toml."""

    code = "nothing-to-run"


def run(
    context: typer.Context,
    service: Annotated[str, typer.Argument(help="Section of the service: assembler, or assembler.site_b.")],
    with_parent: Annotated[
        int | None,
        typer.Option("--with-parent", hidden=True, metavar="PID", help="Stop when this process, our parent, is gone."),
    ] = None,
) -> None:
    """Run one service with the settings of its section, in the foreground, until SIGTERM or Ctrl-C."""
    runtime.serve(context, service, with_parent=with_parent)


def up(
    context: typer.Context,
    services: Annotated[
        list[str] | None, typer.Argument(help="Services to run instead of those in headrace.toml; twice is two copies.")
    ] = None,
) -> None:
    """Run the services chosen in headrace.toml on this machine, and start again what dies.

    Without a Kafka in the settings it runs the embedded one, too. SIGTERM or Ctrl-C ends everything in good order.
    """
    session = runtime.begin(context, "up")
    chosen = services or session.settings.up.services
    if not chosen:
        raise NothingToRun
    check_sections(session, chosen)
    options = context.find_object(Options) or Options()
    with runtime.stopping(threading.Event()) as stop:
        embedded = _Embedded(session) if session.settings.kafka.bootstrap is None else None
        try:
            # What only another setting helps against is said once, not again and again by each service.
            session.cluster()
        except TransientError as error:
            log.warning("waiting for Kafka", problem=str(error))

        def command(name: str) -> Sequence[str]:
            return [
                sys.executable,
                "-m",
                "headrace",
                *options.arguments,
                "run",
                name,
                "--with-parent",
                str(os.getpid()),
            ]

        supervisor = Supervisor(
            chosen, command, session.settings.up, ensure=None if embedded is None else embedded.ensure
        )
        code = supervisor.run(stop)
        if embedded is not None:
            embedded.stop()
    raise typer.Exit(code)


def check_sections(session: Session, services: Sequence[str]) -> None:
    """See that every chosen service can start with its settings, before any is started.

    Raises ConfigError for the first that cannot.
    """
    for name, copies in Counter(services).items():
        found = session.sources.section(name, stage_named(name).load_settings())
        if copies > 1 and found.values.metrics_port not in (0, "auto"):
            raise InvalidSetting(
                setting=f"{name}.metrics_port",
                where=found.origins["metrics_port"],
                problem=f'{copies} copies cannot share one port; use "auto", or instances with ports of their own',
            )


class _Embedded:
    """The embedded broker while `up` runs: started again if it dies, stopped at the end if `up` started it."""

    def __init__(self, session: Session) -> None:
        self._broker: EmbeddedBroker = runtime.embedded_broker(session.settings)
        self._ours = not self._broker.status().running
        self._starting: threading.Thread | None = None

    def ensure(self) -> None:
        """Start it again if its process is gone."""
        if self._broker.pid is not None or (self._starting is not None and self._starting.is_alive()):
            return
        log.warning("the embedded Kafka is gone; starting it again")
        self._starting = threading.Thread(target=self._start, name="broker", daemon=True)
        self._starting.start()

    def stop(self) -> None:
        """Stop it if it was started here."""
        if self._ours:
            log.info("stopping the embedded Kafka")
            self._broker.stop()

    def _start(self) -> None:
        try:
            self._broker.start()
        except HeadraceError as error:
            log.error("the embedded Kafka does not start", problem=str(error))
