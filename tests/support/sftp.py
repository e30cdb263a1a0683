"""SFTP servers for tests: the stand-ins that users rehearse with, in this process, and keys of every kind."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headrace.sandbox.background import Background
from headrace_files.sandbox.sftp.identity import identity, public
from headrace_files.sandbox.sftp.openssh import OpenSshServer
from headrace_files.sandbox.sftp.server import USER, SftpSandbox
from headrace_files.sandbox.sftp.settings import SftpSandboxSettings

KINDS = ("ed25519", "ecdsa", "rsa")


def make_key(place: Path, kind: str = "ed25519", passphrase: str = "", form: str = "RFC4716") -> Path:
    """A new private key, with the public one beside it."""
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(place)]
    subprocess.run([*command, *(["-m", form] if form != "RFC4716" else [])], check=True)
    return place


def fingerprint(public: Path) -> str:
    """As `ssh-keygen -lf` shows it."""
    shown = subprocess.run(["ssh-keygen", "-lf", str(public)], check=True, capture_output=True, text=True).stdout
    return shown.split()[1]


class OpenSsh:
    """OpenSSH's server, for this user, who may log in with every key that was allowed."""

    def __init__(self, folder: Path, port: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.host_key = make_key(folder / "host")
        self._authorized = folder / "authorized"
        self._authorized.touch(0o600)
        self._server = OpenSshServer(folder, folder, self.host_key, [self._authorized], port=port)
        self._server.start()
        self.port, self.user = port, self._server.user

    @property
    def fingerprint(self) -> str:
        """Of its host key."""
        return fingerprint(self.host_key.with_suffix(".pub"))

    def allow(self, key: Path) -> None:
        """Let the holder of this private key in."""
        with self._authorized.open("a") as file:
            file.write(key.with_suffix(".pub").read_text())

    def stop(self) -> None:
        """End it."""
        self._server.stop()


class FaultySftp:
    """The stand-in that can be told to misbehave, on the folder `root`, in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.root.mkdir(parents=True)
        self.identity = identity(folder / "keys")
        self._background = Background(lambda: SftpSandbox(self.root, self.identity))
        self._background.__enter__()
        self.sandbox = self._background.server
        self.user, self.password, self.port = USER, self.identity.password, self.sandbox.port
        self.fingerprint = fingerprint(public(self.identity.host_keys[0]))

    def behave(self, **settings: Any) -> None:
        """Do nothing wrong but this."""
        changes = {**SftpSandboxSettings().model_dump(), **settings}
        self._background.call(lambda sandbox: sandbox.configure(changes))

    def watch(self, on_read: Callable[[int], None] | None) -> None:
        """Have each read's offset told before it is answered."""
        self.sandbox.on_read = on_read

    def call(self, command: str, **arguments: Any) -> None:
        """One of the commands of its control port."""
        self._background.call(lambda sandbox: sandbox.commands()[command](arguments))

    def logins(self) -> int:
        """How often a password was said."""
        return int(self.sandbox.counters.get("logins"))

    @property
    def bytes(self) -> int:
        """Given out."""
        return int(self.sandbox.counters.get("bytes"))

    def stop(self) -> None:
        """End it."""
        self._background.__exit__(None, None, None)
