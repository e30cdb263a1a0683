"""The console as a service: the view that follows the log, and the web server that shows it."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import structlog
import uvicorn

from headrace.cli.options import Options
from headrace.config import sources
from headrace.config.validation import variable_name
from headrace.errors import ConfigError, FatalError
from headrace.families import catalogue
from headrace.topics import JOBS, UPLOAD_ACKS, Topic
from headrace_ops.console.pages.base import Console
from headrace_ops.console.redriving import Redriving
from headrace_ops.console.runs import Runs, program
from headrace_ops.console.sessions import Sessions
from headrace_ops.console.settings import ConsoleSettings
from headrace_ops.console.settings_view import SettingsNow
from headrace_ops.console.watch import Watch
from headrace_ops.console.web import application

if TYPE_CHECKING:
    from headrace.families import Host
    from headrace.kafka.clients import Cluster
    from headrace.observe.health import Health

CONNECTIONS = 200
TOKEN_VARIABLE = variable_name("console", "token")

log = structlog.get_logger(__name__)


class ConsolePortTaken(ConfigError):
    """The console cannot listen on {host}:{port}: {problem}. Choose another console.port, or 0 for a free one."""

    code = "console-port-taken"


class ConsoleStopped(FatalError):
    """A promise of Headrace is broken: {problem}; the console ends and must be started again."""

    code = "console-stopped"


class ConsoleService:
    """Serves pages until told to stop.

    Parameters:
        announce: gets the address to open, with the token in it unless that was set.
        settings_now: the settings of this machine, to be looked at and changed.
        state: folder for what must last on this machine.
        topics: the catalogue, with the user's own datasets.
        program: the words that run a command with the same settings on the same Kafka.
    """

    name: ClassVar[str] = "console"
    writes: ClassVar[Sequence[Topic]] = (UPLOAD_ACKS, JOBS)

    def __init__(
        self,
        settings: ConsoleSettings,
        cluster: Cluster,
        health: Health,
        announce: Callable[[str], None],
        settings_now: SettingsNow,
        state: Path,
        program: Sequence[str],
        topics: Sequence[Topic],
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._health = health
        self._announce = announce
        self._settings_now = settings_now
        self._state = state
        self._program = program
        self._topics = topics
        self._failure: BaseException | None = None

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set.

        Raises ConsolePortTaken, MissingTopic, ConsoleStopped.
        """
        listener = self._listen()
        port: int = listener.getsockname()[1]
        watch = Watch(self._settings, self._cluster, self._topics, self._health)
        redriving = Redriving(self._cluster, self._topics)
        runs = Runs(self._state / "console", self._program, _environment())
        server = self._server(port, watch, redriving, runs)
        ending = threading.Event()
        threads = [
            threading.Thread(target=self._guarded, args=(ending, watch.run, ending), name="watch"),
            threading.Thread(target=self._guarded, args=(ending, server.run, [listener]), name="web"),
        ]
        for thread in threads:
            thread.start()
        try:
            while not stop.wait(0.2) and not ending.is_set():
                pass
        finally:
            ending.set()
            server.should_exit = True
            redriving.close()
            runs.close()
            for thread in threads:
                thread.join()
            listener.close()
        if self._failure is not None:
            raise self._failure

    def _server(self, port: int, watch: Watch, redriving: Redriving, runs: Runs) -> uvicorn.Server:
        own = self._settings
        given = own.token
        token = secrets.token_urlsafe(32) if given is None else given.get_secret_value()
        console = Console(
            self._cluster, self._topics, watch, redriving, Sessions(token, own.session),
            # Cookies do not know ports: two consoles on one machine must not log each other out.
            cookie=f"headrace_{port}", secure=own.https, settings=self._settings_now,
            runs=runs, state=self._state,
        )  # fmt: skip
        url = f"http://{_bracketed(own.host)}:{port}/login"
        log.info("the console listens", url=url)
        if not _is_loopback(own.host) and not own.https:
            log.warning("others on the network can read what the console shows; put a proxy with TLS before it")
        self._announce(url if given is not None else f"{url}#{token}")
        config = uvicorn.Config(
            application(console, _hosts(own, port)), log_config=None, access_log=False, server_header=False,
            proxy_headers=False, lifespan="off", ws="none", limit_concurrency=CONNECTIONS, timeout_keep_alive=10,
            timeout_graceful_shutdown=2,
        )  # fmt: skip
        return uvicorn.Server(config)

    def _listen(self) -> socket.socket:
        own = self._settings
        family = socket.AF_INET6 if ":" in own.host else socket.AF_INET
        try:
            return socket.create_server((own.host, own.port), family=family, backlog=128)
        except OSError as error:
            raise ConsolePortTaken(host=own.host, port=own.port, problem=error.strerror or error) from error

    def _guarded(self, ending: threading.Event, act: Callable[..., object], *arguments: object) -> None:
        """Run one of the threads: when one ends, all do, and what it raised is raised."""
        try:
            act(*arguments)
            if not ending.is_set():
                self._failure = ConsoleStopped(problem="the web server has stopped by itself")
        except BaseException as error:  # noqa: BLE001 - raised by run, in the main thread
            self._failure = error
        finally:
            ending.set()


def _hosts(settings: ConsoleSettings, port: int) -> frozenset[str]:
    """What browsers may send as Host."""
    own = {_bracketed(settings.host), "localhost", "127.0.0.1", "[::1]", *settings.names}
    found = {f"{name.lower()}:{port}" for name in own}
    # A proxy before it listens on a port of its own; browsers leave out the usual one.
    found |= {name.lower() for name in settings.names}
    return frozenset(found)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def say(url: str) -> None:
    """Print the address for whoever started the console; it never goes to the log, which others may read."""
    sys.stdout.write(f"Open {url}\n")
    sys.stdout.flush()


def service(settings: ConsoleSettings, host: Host) -> ConsoleService:
    """The console as its settings say."""
    found = host.sources if host.sources is not None else sources(None)
    bootstrap = host.settings.kafka.bootstrap
    options = Options(found.file, bootstrap).arguments
    now = SettingsNow.of(host.settings, found)
    topics = catalogue(datasets=host.settings.datasets.folder)
    return ConsoleService(
        settings, host.cluster, host.health, say, now, host.settings.state, program(options), topics
    )  # fmt: skip


def _environment() -> dict[str, str]:
    """Of the commands that are run: all but our own secret."""
    found = {name: value for name, value in os.environ.items() if name.upper() != TOKEN_VARIABLE}
    return {**found, "HEADRACE_LOG__FORMAT": "json"}
