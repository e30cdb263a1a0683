"""The machinery of the demonstration: a Kafka, an S3 server, and `headrace up` with a settings file of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

from headrace.broker import EmbeddedBroker, free_port
from headrace.config import KafkaSettings
from headrace.errors import FatalError
from headrace.kafka.admin import create_missing
from headrace.kafka.clients import Cluster
from headrace.sandbox.s3 import S3Server
from headrace.topics import SPINE

BUCKET = "archive"
STOP_SECONDS = 40.0

_SETTINGS = """\
# Written by `headrace demo`; try: headrace --config {file} verify
state = "{state}"

[kafka]
bootstrap = "{bootstrap}"

[log]
level = "warning"
format = "json"

[directory_source]
root = "{instrument}"
source = "instrument"
settle = "1s"
metrics_port = 0

[assembler]
root = "{site}"
sink = "site"
metrics_port = 0

[archiver]
endpoint = "{endpoint}"
bucket = "{bucket}"
access_key = "{access_key}"
secret_key_file = "{secret}"
metrics_port = 0

[up]
services = ["directory_source", "assembler", "assembler", "archiver"]
"""


class ServicesEnded(FatalError):
    """The services of the demonstration have ended; what they said is in {log}."""

    code = "services-ended"


class StageSet:
    """Everything that runs, below one folder; a context manager that ends it all, and keeps the data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.instrument = self.folder / "instrument"
        self.site = self.folder / "site"
        self.settings_file = self.folder / "headrace.toml"
        self.log = self.folder / "services.log"
        self.broker = EmbeddedBroker(self.folder / "state" / "broker", free_port(), fast_start=True)
        self.s3 = S3Server(self.folder / "s3")
        self._services: subprocess.Popen[bytes] | None = None

    def start(self) -> Cluster:
        """Start the servers, make topics and bucket, write the settings."""
        self.instrument.mkdir(parents=True, exist_ok=True)
        self.broker.start()
        self.s3.start()
        self.s3.create_bucket(BUCKET)
        secret = self.folder / "s3-secret-key"
        secret.touch(0o600)
        secret.write_text(self.s3.secret_key, "utf-8")
        self.settings_file.touch(0o600)  # it names an access key
        self.settings_file.write_text(
            _SETTINGS.format(
                file=self.settings_file,
                state=self.folder / "state",
                bootstrap=self.broker.bootstrap,
                instrument=self.instrument,
                site=self.site,
                endpoint=self.s3.endpoint,
                bucket=BUCKET,
                access_key=self.s3.access_key,
                secret=secret,
            ),
            "utf-8",
        )
        cluster = Cluster(KafkaSettings(bootstrap=self.broker.bootstrap))
        create_missing(cluster, SPINE)
        return cluster

    def start_services(self) -> None:
        """Run all services, under `headrace up`."""
        with self.log.open("ab") as log:
            self._services = subprocess.Popen(
                self._headrace("up"), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def check(self) -> None:
        """Raise ServicesEnded if the supervisor is gone."""
        if self._services is not None and self._services.poll() is not None:
            raise ServicesEnded(log=self.log)

    def kill_one_assembler(self) -> int | None:
        """SIGKILL one of the assemblers; its process number, or None if none runs yet."""
        if self._services is None:
            return None
        for child in psutil.Process(self._services.pid).children(recursive=True):
            try:
                if "assembler" in child.cmdline():
                    child.kill()
                    return int(child.pid)
            except psutil.NoSuchProcess:
                continue
        return None

    def verify(self) -> int:
        """Run `headrace verify --deep` in the open; its exit code."""
        sys.stdout.flush()
        return subprocess.run(self._headrace("verify", "--deep"), check=False).returncode

    def close(self) -> None:
        """End services and servers; the data stays."""
        if self._services is not None and self._services.poll() is None:
            self._services.terminate()
            try:
                self._services.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._services.kill()
                self._services.wait()
        self.s3.stop()
        self.broker.stop()

    def _headrace(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "headrace", "--config", str(self.settings_file), *arguments]
