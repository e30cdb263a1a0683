"""An S3 server on this machine: versitygw over a folder where there is a Go toolchain, else moto's server.

versitygw is a real server: what it stores is on disk, it refuses what S3 refuses, and its speed is worth measuring.
moto keeps objects in memory and is for looking only; `S3Server.kind` says which one runs.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import boto3

from headrace.broker.probe import free_port, is_free
from headrace.errors import ConfigError, FatalError
from headrace.sandbox.versitygw import GoMissing, VersitygwNotBuilt, ensure_versitygw

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"
_POLL = 0.05  # seconds between two looks at a starting server
_HEALTH = "/headrace-health"


class NoS3Server(ConfigError):
    """No S3 server can be run here. {versitygw} Or install moto's server: `pip install 'moto[s3,server]'`."""

    code = "no-s3-server"


class S3PortTaken(ConfigError):
    """Port {port} of 127.0.0.1, where the S3 server is to listen, is in use; choose another one."""

    code = "s3-port-taken"


class S3NotStarted(FatalError):
    """The S3 server on {folder} {problem}. {log} ends with: {tail}."""

    code = "s3-not-started"


class S3Server:
    """Runs an S3 server as a child process; a context manager that starts and stops it.

    Parameters:
        folder: where buckets (`objects/`), old versions (`versions/`) and the log lie; kept when the server stops.
        port: TCP port on 127.0.0.1; None takes a free one and keeps it over restarts.
        access_key, secret_key: of the root account; the secret is drawn at random if None.
        versioning: let buckets keep old versions when asked to.
        start_timeout, stop_timeout: seconds.

    Raises NoS3Server if there is neither a Go toolchain nor moto.
    """

    region = REGION

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        access_key: str = "headrace",
        secret_key: str | None = None,
        versioning: bool = True,
        start_timeout: float = 20.0,
        stop_timeout: float = 10.0,
    ) -> None:
        self.folder = folder.absolute()
        self.port = port or free_port()
        self.access_key = access_key
        self.secret_key = secret_key or secrets.token_urlsafe(24)
        self._versioning = versioning
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._child: subprocess.Popen[bytes] | None = None
        self._program = _choose()

    @property
    def kind(self) -> str:
        """Which server it is: "versitygw" or "moto"."""
        return "moto" if self._program is None else "versitygw"

    @property
    def endpoint(self) -> str:
        """URL for clients' `endpoint_url`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def objects(self) -> Path:
        """Folder with a folder for each bucket (versitygw only)."""
        return self.folder / "objects"

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self.folder / "s3.log"

    @property
    def pid(self) -> int | None:
        """Number of the running process, None if there is none."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    def start(self) -> None:
        """Start the server unless it runs, and return when it answers.

        Raises S3PortTaken or S3NotStarted.
        """
        if self.pid is not None:
            return
        if not is_free(self.port):
            raise S3PortTaken(port=self.port)
        for folder in (self.objects, self.folder / "versions", self.folder / "metadata"):
            folder.mkdir(parents=True, exist_ok=True)
        command, environment = self._moto() if self._program is None else self._versitygw(self._program)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._await_answer(self._child)

    def stop(self) -> None:
        """End the server in good order, by force after `stop_timeout`."""
        if self._child is not None:
            self._child.terminate()
            try:
                self._child.wait(self._stop_timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        self._child = None

    def kill(self) -> None:
        """End the server as a crash would, with SIGKILL."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self._child = None

    def restart(self) -> None:
        """Stop and start on the same port and folder."""
        self.stop()
        self.start()

    def client(self) -> S3Client:
        """A boto3 client of the root account."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )

    def create_bucket(self, name: str) -> str:
        """Create a bucket unless it is there; return its name."""
        client = self.client()
        if name not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=name)
        return name

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _versitygw(self, program: Path) -> tuple[list[str], dict[str, str]]:
        command = [str(program), "--port", f"127.0.0.1:{self.port}", "--region", REGION]
        # Without --keep-alive every request is a connection of its own.
        command += ["--health", _HEALTH, "--quiet", "--keep-alive", "posix"]
        if self._versioning:
            command += ["--versioning-dir", str(self.folder / "versions")]
        if not _has_attributes(self.objects):
            command += ["--sidecar", str(self.folder / "metadata")]
        # In the environment, since everybody may read a command line.
        return [*command, str(self.objects)], {
            "ROOT_ACCESS_KEY_ID": self.access_key,
            "ROOT_SECRET_ACCESS_KEY": self.secret_key,
        }

    def _moto(self) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)], {}

    def _await_answer(self, child: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._start_timeout
        while not self._answers():
            if child.poll() is not None:
                raise self._not_started("ended before it answered")
            if time.monotonic() > deadline:
                self.kill()
                raise self._not_started(f"did not answer within {self._start_timeout:.0f} s and was ended")
            time.sleep(_POLL)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", _HEALTH if self._program else "/moto-api/")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _not_started(self, problem: str) -> S3NotStarted:
        tail = self.log.read_text(encoding="utf-8", errors="replace").strip()[-600:]
        return S3NotStarted(folder=self.folder, problem=problem, log=self.log, tail=tail)


def _choose() -> Path | None:
    """The versitygw program, or None where moto has to do."""
    try:
        return ensure_versitygw()
    except (GoMissing, VersitygwNotBuilt) as error:
        if importlib.util.find_spec("moto") is None:
            raise NoS3Server(versitygw=error) from error
        return None


def _has_attributes(folder: Path) -> bool:
    """Tell whether this file system keeps extended attributes, where versitygw likes to put its metadata."""
    try:
        os.setxattr(folder, "user.headrace", b"1")
        os.removexattr(folder, "user.headrace")
    except (OSError, AttributeError):  # AttributeError: this system has none
        return False
    return True
