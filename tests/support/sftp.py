"""SFTP servers for tests: OpenSSH's own, and one that can be told to misbehave. Both on the loopback address."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from tests.support.waiting import wait_until

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
KINDS = ("ed25519", "ecdsa", "rsa")


def have_sshd() -> bool:
    """Whether OpenSSH's server is on this machine."""
    return os.access(SSHD, os.X_OK)


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
    """OpenSSH's server, for this user, who may log in with every key that is in `authorized`."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.user = getpass.getuser()
        folder.mkdir(parents=True, exist_ok=True)
        self.host_key = make_key(folder / "host")
        self.authorized = folder / "authorized"
        self.authorized.touch(0o600)
        if os.geteuid() == 0:
            # Where no service runs, nobody has made the folder that it locks itself into.
            Path("/run/sshd").mkdir(exist_ok=True)
        configuration = folder / "sshd_config"
        configuration.write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {self.host_key}\nPidFile none\n"
            f"AuthorizedKeysFile {self.authorized}\nStrictModes no\nPermitRootLogin prohibit-password\n"
            "PasswordAuthentication no\nUsePAM no\nSubsystem sftp internal-sftp\nMaxStartups 100\n"
        )
        self._log = (folder / "sshd.log").open("wb")
        self._process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(configuration)], stderr=self._log)
        wait_until(self._answers, within=10)

    @property
    def fingerprint(self) -> str:
        """Of its host key."""
        return fingerprint(self.host_key.with_suffix(".pub"))

    def allow(self, key: Path) -> None:
        """Let the holder of this private key in."""
        with self.authorized.open("a") as file:
            file.write(key.with_suffix(".pub").read_text())

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10)
        self._log.close()

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.folder / "sshd.log").read_text()
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as link:
                return link.recv(4) == b"SSH-"
        except OSError:
            return False


@dataclass
class Faults:
    """How a server misbehaves.

    Parameters:
        cut_at: hang up when a read comes that this byte is in, as often as `cuts` says.
        most_at_once: bytes given for a read at most.
        most_outstanding: reads under way; one more is refused.
        pause: seconds before each read is answered.
        more_than_there: bytes that it adds to the sizes that it tells.
        on_read: called before each read with its offset.
    """

    cut_at: int | None = None
    cuts: int = 1
    most_at_once: int | None = None
    most_outstanding: int | None = None
    pause: float = 0.0
    more_than_there: int = 0
    on_read: Callable[[int], None] = field(default=lambda _offset: None)


class FaultySftp:
    """asyncssh's server on the folder `root`, in a thread of its own; `faults` may be changed while it runs."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.root.mkdir(parents=True)
        self.user = "loader"
        self.password = "correct horse"
        self.faults = Faults()
        self.reads = 0
        self.bytes = 0
        self.outstanding = self.most_outstanding = 0
        self.logins: list[str] = []
        self.host_key = make_key(folder / "host")
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    @property
    def fingerprint(self) -> str:
        """Of its host key."""
        return fingerprint(self.host_key.with_suffix(".pub"))

    def stop(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _start(self) -> None:
        outer = self

        class Login(asyncssh.SSHServer):
            def begin_auth(self, username: str) -> bool:
                return True

            def password_auth_supported(self) -> bool:
                return True

            def validate_password(self, username: str, password: str) -> bool:
                outer.logins.append(password)
                return (username, password) == (outer.user, outer.password)

        class Files(asyncssh.SFTPServer):
            def __init__(self, channel: Any) -> None:
                super().__init__(channel, chroot=os.fsencode(outer.root))
                self._connection = channel.get_connection()

            async def read(self, file_obj: Any, offset: int, size: int) -> bytes:
                faults = outer.faults
                outer.reads += 1
                outer.outstanding += 1
                outer.most_outstanding = max(outer.most_outstanding, outer.outstanding)
                try:
                    if faults.most_outstanding is not None and outer.outstanding > faults.most_outstanding:
                        raise asyncssh.SFTPFailure("too many at once")
                    # Also so that reads which are under way together are seen together.
                    await asyncio.sleep(faults.pause)
                    faults.on_read(offset)
                    if faults.cut_at is not None and offset <= faults.cut_at < offset + size and faults.cuts > 0:
                        faults.cuts -= 1
                        self._connection.abort()
                        raise asyncssh.SFTPConnectionLost("cut")
                    data: bytes = super().read(file_obj, offset, size)  # type: ignore[assignment]
                    data = data[: faults.most_at_once]
                    outer.bytes += len(data)
                    return data
                finally:
                    outer.outstanding -= 1

            def stat(self, path: bytes) -> Any:
                return self._told(super().stat(path))

            def fstat(self, file_obj: Any) -> Any:
                return self._told(super().fstat(file_obj))

            @staticmethod
            def _told(found: Any) -> Any:
                attributes = asyncssh.SFTPAttrs.from_local(found)
                attributes.size = (attributes.size or 0) + outer.faults.more_than_there
                return attributes

        self._server = await asyncssh.create_server(
            Login, "127.0.0.1", 0, server_host_keys=[str(self.host_key)], sftp_factory=Files
        )
        self.port = self._server.get_port()
