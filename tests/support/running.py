"""Runs a stage's loop in a thread of the test, and reads what it left on the log."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from headrace.codec import avro
from headrace.config import KafkaSettings
from headrace.events import UploadAck
from headrace.kafka.admin import create_missing
from headrace.kafka.clients import Cluster
from headrace.kafka.raw import RawMessage
from headrace.kafka.reading import read_now
from headrace.stage.contract import Stage
from headrace.stage.loop import Loop
from headrace.topics import DEAD_LETTERS, SPINE, UPLOAD_ACKS


def new_cluster(bootstrap: str, prefix: str, partitions: int = 3) -> Cluster:
    """A cluster with all topics of the spine under a prefix of its own."""
    cluster = Cluster(KafkaSettings(bootstrap=bootstrap, prefix=prefix, partitions=partitions))
    create_missing(cluster, SPINE)
    return cluster


class RunningLoop:
    """A loop in a thread; what it raised is raised by `stop`."""

    def __init__(self, stage: Stage, cluster: Cluster, sink: str = "test", **options: object) -> None:
        self.loop = Loop(stage, cluster, sink=sink, **{"session": 6.0, **options})  # type: ignore[arg-type]
        self.stopping = threading.Event()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.loop.run(self.stopping)
        except BaseException as error:  # noqa: BLE001 - raised by stop
            self.failure = error

    def stop(self) -> None:
        self.stopping.set()
        self._thread.join(30)
        assert not self._thread.is_alive(), "the loop did not stop"
        if self.failure is not None:
            raise self.failure


@contextmanager
def running(stage: Stage, cluster: Cluster, sink: str = "test", **options: object) -> Iterator[RunningLoop]:
    """A loop that is stopped at the end."""
    loop = RunningLoop(stage, cluster, sink, **options)
    try:
        yield loop
    finally:
        loop.stop()


def receipts_on_log(cluster: Cluster) -> list[UploadAck]:
    """All receipts, in log order per partition; those that were taken back as well."""
    return [
        avro.decode(value, UploadAck)
        for batch in read_now(cluster, UPLOAD_ACKS)
        for message in batch
        if (value := message.value())
    ]


def dead_letters(cluster: Cluster) -> list[RawMessage]:
    """All dead letters."""
    return [message for batch in read_now(cluster, DEAD_LETTERS) for message in batch]


def header(message: RawMessage, name: str) -> str | None:
    """One header as text."""
    return next((value.decode() for key, value in message.headers() or () if key == name), None)
