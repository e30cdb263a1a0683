"""`headrace sandbox art`."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.config.validation import validate
from headrace.sandbox.clock import RunningClock, SteppedClock
from headrace.sandbox.options import pairs, read_file, serve
from headrace_art.sandbox.server import ArtSandbox
from headrace_art.sandbox.settings import ArtSandboxSettings

_UNLIMITED: dict[str, Any] = {
    "consume_unchanged": None,
    "consume_changed": None,
    "event_rate": None,
    "latency_ms": 0,
    "publish_us": 0,
    "entity_cache_lag_s": 0,
}


def art(
    port: Annotated[int, typer.Option(help="Port of ART; the token provider has the next one. 0 = free ones.")] = 8443,
    control_port: Annotated[
        int | None, typer.Option(help="Port to look and to make it fail; default: the second after --port.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    nodes: Annotated[int, typer.Option(help="ART nodes behind the address.", min=1, max=16)] = 2,
    node_ports: Annotated[bool, typer.Option("--node-ports", help="Give each node a port of its own, too.")] = False,
    unlimited: Annotated[
        bool, typer.Option("--unlimited", help="No latency and no limit on what ART takes in: for measuring others.")
    ] = False,
    speed: Annotated[float, typer.Option(help="Let its time run this many times as fast.", min=0.001)] = 1,
    stepped: Annotated[bool, typer.Option("--stepped", help="Time stands still; the control port moves it.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Any setting of docs/how-to/rehearse.md, as JSON; repeatable."
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="TOML with settings, and faults as [[faults]].")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="Serve TLS with this PEM certificate.")] = None,
    key: Annotated[Path | None, typer.Option(help="The private key of the certificate.")] = None,
) -> None:
    """Run a stand-in for ART: rehearse a load against it, with all that goes wrong at the real one.

    It keeps students and entities in memory and forgets them when it ends. Stop it with Ctrl-C or SIGTERM.
    """
    values, faults = read_file(file)
    values = {"nodes": nodes, **(_UNLIMITED if unlimited else {}), **values, **pairs(settings)}
    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
    origins = dict.fromkeys(values, "the command line or the file")
    checked = validate(ArtSandboxSettings, values, origins, "sandbox")

    def make() -> ArtSandbox:
        return ArtSandbox(
            checked,
            SteppedClock() if stepped else RunningClock(speed),
            host=host,
            port=port,
            auth_port=port + 1 if port else 0,
            control_port=(port + 2 if port else 0) if control_port is None else control_port,
            node_ports=node_ports,
            tls=tls,
            faults=faults,
        )

    serve(make, _urls)


def _urls(sandbox: ArtSandbox) -> Mapping[str, str]:
    settings = sandbox.world.settings
    # Made up, and needed: nobody else knows them.
    username, password = next(iter(settings.users.items()), ("", ""))
    return {
        "rest_url": sandbox.rest_url,
        "token_url": sandbox.token_url,
        "username": username,
        "password": password,
        "client_id": settings.client_id,
        "client_secret": settings.client_secret,
        "control_url": sandbox.control.url,
        **{each.name.replace(" ", "_"): each.url for each in sandbox.node_listeners},
    }
