"""OpenSSH's own server on one folder, read-only, for the user who starts it."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from headrace.broker.probe import is_free
from headrace.errors import ConfigError, FatalError

START_SECONDS = 10.0
_POLL = 0.02


class NoOpenSsh(ConfigError):
    """OpenSSH's server is not on this machine. Install it (`apt-get install openssh-server`), or use --server asyncssh."""  # noqa: E501

    code = "no-openssh"


class SftpPortTaken(ConfigError):
    """Port {port} of {host}, where the sFTP server is to listen, is in use; choose another one with --port."""

    code = "sftp-port-taken"


class OpenSshNotStarted(FatalError):
    """OpenSSH's server {problem}. {log} ends with: {tail}."""

    code = "openssh-not-started"


def find_sshd() -> str | None:
    """The server's program, if this machine has it; it must be started by its whole path."""
    found = shutil.which("sshd") or "/usr/sbin/sshd"
    return found if os.access(found, os.X_OK) else None


class OpenSshServer:
    """A context manager. Whoever has one of the authorized keys may log in, as the user who runs it; no password does.

    Parameters:
        folder: for its configuration and log.
        root: where a client's relative paths begin.
        host_key: private key; `authorized`: files of public keys.

    Raises NoOpenSsh.
    """

    def __init__(
        self,
        folder: Path,
        root: Path,
        host_key: Path,
        authorized: Iterable[Path],
        *,
        host: str = "127.0.0.1",
        port: int,
    ) -> None:
        program = find_sshd()
        if program is None:
            raise NoOpenSsh
        self.host, self.port, self.user = host, port, getpass.getuser()
        self.log = folder / "sshd.log"
        self._program = program
        self._configuration = folder / "sshd_config"
        # sshd splits these words at spaces, quotes or not, so the folder goes by a name without any.
        self._alias = Path(tempfile.mkdtemp(prefix="headrace-sftp-")) / "root"
        self._root = root.absolute()
        serving = f"internal-sftp -R -d {self._alias}"
        keys = " ".join(f'"{place.absolute()}"' for place in authorized)
        self._text = (
            f'Port {port}\nListenAddress {host}\nHostKey "{host_key.absolute()}"\nPidFile none\n'
            f"AuthorizedKeysFile {keys}\nStrictModes no\nPermitRootLogin prohibit-password\n"
            f"PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nMaxStartups 100\n"
            f"Subsystem sftp {serving}\nForceCommand {serving}\n"
            "AllowTcpForwarding no\nX11Forwarding no\n"
        )
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers.

        Raises SftpPortTaken, OpenSshNotStarted.
        """
        if not is_free(self.port):
            raise SftpPortTaken(host=self.host, port=self.port)
        if os.geteuid() == 0:
            # Where no service runs, nobody has made the folder that it locks itself into.
            Path("/run/sshd").mkdir(exist_ok=True)
        self._configuration.parent.mkdir(parents=True, exist_ok=True)
        self._alias.parent.mkdir(exist_ok=True)
        if not self._alias.is_symlink():
            self._alias.symlink_to(self._root)
        self._configuration.write_text(self._text, "utf-8")
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                [self._program, "-D", "-e", "-f", str(self._configuration)], stdin=subprocess.DEVNULL, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._child.poll() is not None:
                raise self._not_started("ended before it answered")
            if time.monotonic() > deadline:
                self.stop()
                raise self._not_started(f"did not answer within {START_SECONDS:.0f} s")
            time.sleep(_POLL)

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._child is not None and self._child.poll() is None

    def tail(self) -> str:
        """The end of what it said."""
        return self.log.read_text("utf-8", "replace").strip()[-600:]

    def stop(self) -> None:
        """End it; connections that are open end by themselves."""
        if self._child is not None:
            self._child.terminate()
            self._child.wait(START_SECONDS)
        self._child = None
        shutil.rmtree(self._alias.parent, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), 1) as link:
                return link.recv(4) == b"SSH-"
        except OSError:
            return False

    def _not_started(self, problem: str) -> OpenSshNotStarted:
        return OpenSshNotStarted(problem=problem, log=self.log, tail=self.tail())
