"""The machinery of the demonstration: an S3 server, and `headrace up` with a settings file of its own."""

from __future__ import annotations

import subprocess

import psutil

from headrace.config import KafkaSettings
from headrace.demonstration import Scene
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

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.folder = scene.folder
        self.instrument = self.folder / "instrument"
        self.site = self.folder / "site"
        self.settings_file = self.folder / "headrace.toml"
        self.log = self.folder / "services.log"
        self.s3 = S3Server(self.folder / "s3")
        self._services: subprocess.Popen[bytes] | None = None

    def start(self) -> Cluster:
        """Start the servers, make topics and bucket, write the settings."""
        self.instrument.mkdir(parents=True, exist_ok=True)
        self.s3.start()
        self.s3.create_bucket(BUCKET)
        bootstrap = self._scene.broker.bootstrap
        secret = self._scene.write("s3-secret-key", self.s3.secret_key)
        self._scene.write(
            self.settings_file.name,
            _SETTINGS.format(
                file=self.settings_file,
                state=self.folder / "state",
                bootstrap=bootstrap,
                instrument=self.instrument,
                site=self.site,
                endpoint=self.s3.endpoint,
                bucket=BUCKET,
                access_key=self.s3.access_key,
                secret=secret,
            ),
        )
        cluster = Cluster(KafkaSettings(bootstrap=bootstrap))
        create_missing(cluster, SPINE)
        return cluster

    def start_services(self) -> None:
        """Run all services, under `headrace up`."""
        with self.log.open("ab") as log:
            self._services = subprocess.Popen(
                self._scene.command("--config", self.settings_file, "up"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
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
        return self._scene.run("--config", self.settings_file, "verify", "--deep")

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
