"""`headrace sandbox sftp`."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer

from headrace.broker.probe import free_port
from headrace.cli.runtime import begin, stopping
from headrace.config.validation import validate
from headrace.sandbox.options import pairs, read_file, serve
from headrace_files.sandbox.sftp.identity import Identity, identity, public
from headrace_files.sandbox.sftp.openssh import OpenSshNotStarted, OpenSshServer, find_sshd
from headrace_files.sandbox.sftp.server import USER, SftpSandbox
from headrace_files.sandbox.sftp.settings import SftpSandboxSettings

LOOK_SECONDS = 0.2


def sftp(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="Folder to serve, read-only.")
    ],
    port: Annotated[int, typer.Option(help="Port to listen on. 0 = a free one.")] = 2222,
    control_port: Annotated[
        int | None,
        typer.Option(help="Port to look and to make it fail, asyncssh only; default: the one after --port."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    server: Annotated[
        Literal["openssh", "asyncssh"] | None,
        typer.Option(
            help="OpenSSH's own server takes keys only and does nothing wrong; asyncssh takes the password, too, and"
            " has the control port. Default: openssh where it is installed and nothing is to go wrong."
        ),
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Its host keys and its user's key and password; made if missing.")
    ] = None,
    authorized_keys: Annotated[
        Path | None, typer.Option(metavar="FILE", exists=True, help="More public keys that may log in.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any setting of the how-to's table, as JSON; repeatable."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="TOML with settings, and faults as [[faults]].")
    ] = None,
) -> None:
    """Run an sFTP server on a folder: rehearse a fetch against it, with all that goes wrong at a real one.

    It prints where it listens and what to log in with. Stop it with Ctrl-C or SIGTERM.
    """
    session = begin(context)
    kept = keys or session.settings.state / "sandbox" / "sftp"
    who = identity(kept)
    values, faults = read_file(file)
    values |= pairs(settings)
    checked = validate(SftpSandboxSettings, values, dict.fromkeys(values, "the command line or the file"), "sandbox")
    wrong = bool(values or faults or control_port is not None)
    if server == "openssh" and wrong:
        raise typer.BadParameter("OpenSSH has no faults", param_hint="--server")
    authorized = [] if authorized_keys is None else [authorized_keys]
    if server == "openssh" or (server is None and not wrong and find_sshd() is not None):
        _serve_openssh(
            OpenSshServer(
                kept, folder, who.host_keys[0], [public(who.user_key), *authorized], host=host, port=port or free_port()
            ),
            who,
        )
        return

    def make() -> SftpSandbox:
        return SftpSandbox(
            folder.absolute(), who, checked, authorized=authorized, host=host, port=port,
            control_port=(port + 1 if port else 0) if control_port is None else control_port, faults=faults,
        )  # fmt: skip

    serve(make, _told)


def _serve_openssh(openssh: OpenSshServer, who: Identity) -> None:
    with openssh, stopping(threading.Event()) as stop:
        typer.echo(
            orjson.dumps({"server": "openssh", **_login(openssh.host, openssh.port, openssh.user, who)}).decode()
        )
        while openssh.running:
            if stop.wait(LOOK_SECONDS):
                return
    raise OpenSshNotStarted(problem="has ended by itself", log=openssh.log, tail=openssh.tail())


def _told(sandbox: SftpSandbox) -> Mapping[str, Any]:
    who = sandbox.identity
    return {
        "server": "asyncssh",
        **_login(sandbox.host, sandbox.port, USER, who),
        "password_file": str(who.password_file),
        "wrong_fingerprint": who.fingerprint(2),
        "control_url": sandbox.control.url,
    }


def _login(host: str, port: int, user: str, who: Identity) -> Mapping[str, Any]:
    return {
        "host": host, "port": port, "user": user, "key_file": str(who.user_key), "fingerprint": who.fingerprint(),
    }  # fmt: skip
