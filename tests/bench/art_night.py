"""What the benchmarks of the ART stages share: a night's files, the stand-in and the services as processes, a clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import confluent_kafka
import psutil

from headrace.broker import EmbeddedBroker
from headrace.codec import avro
from headrace.config import KafkaSettings
from headrace.events import UploadAck
from headrace.families import catalogue
from headrace.kafka.admin import create_missing
from headrace.kafka.clients import Cluster
from headrace.topics import UPLOAD_ACKS
from headrace_art.accounting import BATCH
from headrace_art.sandbox.dump.plan import Plan
from headrace_art.sandbox.dump.writing import Night
from tests.support.art import PASSWORD, USER
from tests.support.feeding import FedFile, Feeder
from tests.support.processes import HEADRACE, Service
from tests.support.waiting import wait_until

MEGABYTE = 1_000_000
CHUNK = 256 * 1024
PLAIN = "import sys; from tests.bench.art_plain import main; main(*sys.argv[1:])"


@dataclass(frozen=True)
class Files:
    """The two zips of a night."""

    schools: Path
    students: Path
    rows: int
    school_rows: int


def night(folder: Path, name: str, **plan: Any) -> Files:
    """Write a night's files: no row is broken, doubled, or of an unknown school, so that both sides do the same."""
    values = {"duplicates": 0, "unknown_schools": 0, "broken": 0, **plan}
    summary = Night(folder / name, "20261105", Plan(**values)).write()
    return Files(Path(summary.schools), Path(summary.students), summary.rows, summary.school_rows)


class Art:
    """The stand-in, in a process of its own, without limits but for what is set."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        more = [word for name, value in settings.items() for word in ("--set", f"{name}={json.dumps(value)}")]
        more += ["--set", f"users={json.dumps({USER: PASSWORD})}"]
        command = [str(HEADRACE), "sandbox", "art", "--unlimited", "--port", "0", *more]
        self._log = (folder / "art.log").open("ab")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, text=True)
        assert self.process.stdout is not None
        told = json.loads(self.process.stdout.readline())
        self.rest, self.token, self.control = told["rest_url"], told["token_url"], told["control_url"]

    def counters(self) -> dict[str, Any]:
        """What it has counted."""
        with urllib.request.urlopen(f"{self.control}/counters", timeout=60) as answer:  # noqa: S310 - our own
            found: dict[str, Any] = json.load(answer)
            return found

    def writes(self) -> int:
        """Requests that may have changed something."""
        requests = self.counters().get("requests", {})
        verbs = ("post", "put", "delete")
        return sum(sum(by.values()) for name, by in requests.items() if name.rpartition("_")[2] in verbs)

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()
        self._log.close()


@contextmanager
def art(folder: Path, **settings: Any) -> Iterator[Art]:
    """A stand-in for a while."""
    served = Art(folder, **settings)
    try:
        yield served
    finally:
        served.stop()


def plain(served: Art, files: Files) -> dict[str, float]:
    """Run the plain program; its seconds for entities and students."""
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, served.rest, served.token, served.control, files.schools,
         files.students],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


@dataclass
class Spent:
    """Seconds of the clock, and of processor time by process."""

    seconds: float
    processor: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.processor.items())
        return f"{self.seconds:.2f} s; processor seconds: {parts}"


class Plant:
    """Services on topics of their own, joined to their groups, and a reader of receipts."""

    def __init__(self, broker: EmbeddedBroker, folder: Path, prefix: str, served: Art, **settings: str) -> None:
        self.cluster = Cluster(KafkaSettings(bootstrap=broker.bootstrap, prefix=prefix))
        create_missing(self.cluster, catalogue())
        self.folder = folder / prefix
        self.folder.mkdir()
        self._served, self._broker = served, broker
        self._feeder = Feeder(self.cluster)
        self._environment = {
            "HEADRACE_KAFKA__BOOTSTRAP": broker.bootstrap, "HEADRACE_KAFKA__PREFIX": prefix,
            "HEADRACE_STATE": str(self.folder / "state"), "HEADRACE_ART__URL": served.rest,
            "HEADRACE_ART__TOKEN_URL": served.token, "HEADRACE_ART__USERNAME": USER,
            "HEADRACE_ART__PASSWORD": PASSWORD, "HEADRACE_ART__CLIENT_ID": "headrace",
            "HEADRACE_ART__CLIENT_SECRET": "sandbox",
            **{f"HEADRACE_{name}__METRICS_PORT": "0" for name in ("STUDENTS", "ENTITIES", "CSV_FANOUT")},
            **settings,
        }  # fmt: skip
        self.services: dict[str, Service] = {}
        self.covered: dict[tuple[str, str], dict[str, int]] = {}
        self._reader = self.cluster.consumer(None)
        name = self.cluster.topic_name(UPLOAD_ACKS)
        count = self.cluster.partitions(UPLOAD_ACKS)
        self._reader.assign([confluent_kafka.TopicPartition(name, number, 0) for number in range(count)])

    def start(self, *stages: str) -> None:
        """Start copies of services, and wait until they have partitions."""
        for stage in stages:
            number = sum(each.startswith(stage) for each in self.services) + 1
            service = Service(f"{stage}-{number}", self.folder, ["run", stage], self._environment)
            self.services[service.name] = service
            service.start()
        for service in self.services.values():
            wait_until(lambda service=service: service.said("partitions assigned"), within=60)  # type: ignore[misc]

    def feed(self, path: Path, dataset: str, name: str, job: str = "bench") -> FedFile:
        """Put a file on the log as a source does."""
        file = FedFile(name.encode(), path.read_bytes(), dataset=dataset, job=job, chunk=CHUNK)
        self._feeder.send(file, *file.frames())
        self._feeder.flush()
        return file

    def feed_night(self, files: Files, name: str) -> tuple[FedFile, FedFile]:
        """Both files under a job of their own."""
        schools = self.feed(files.schools, "art_schools", f"schools-{name}", name)
        return schools, self.feed(files.students, "art_students", f"students-{name}", name)

    def wait(self, stage: str, file: FedFile, lines: int, within: float = 1200) -> dict[str, int]:
        """Wait until the receipts of a stage speak of so many lines of a file; how many by outcome."""

        wait_until(lambda: sum(self.poll(stage, file).values()) >= lines, within=within, every=0)
        return self.by_outcome(stage, file)

    def poll(self, stage: str, file: FedFile) -> dict[str, int]:
        """Take in the receipts that came; lines of a file by outcome so far."""
        for message in self._reader.consume(500, 0.02):
            if message.error() is None and message.value():
                ack = avro.decode(message.value() or b"", UploadAck)
                if ack.item.startswith(BATCH):
                    # The receipt of its part tells of the same lines again.
                    continue
                found = self.covered.setdefault((ack.group, (ack.file or b"").hex()), {})
                for each in ack.covers:
                    found[each.outcome] = found.get(each.outcome, 0) + each.count
        return self.by_outcome(stage, file)

    def by_outcome(self, stage: str, file: FedFile) -> dict[str, int]:
        """Lines by outcome."""
        mark = f"{self.cluster.settings.prefix}{stage}."
        return next(
            (found for (group, item), found in self.covered.items() if item == file.item and group.startswith(mark)), {}
        )

    @contextmanager
    def spending(self) -> Iterator[Spent]:
        """Measure what is spent meanwhile."""
        processes = {name: self.process(service) for name, service in self.services.items()}
        processes["art"] = psutil.Process(self._served.process.pid)
        processes["kafka"] = self._kafka()
        before = {name: _cpu(process) for name, process in processes.items()}
        own = _cpu(psutil.Process())
        began = time.perf_counter()
        spent = Spent(0.0)
        yield spent
        spent.seconds = time.perf_counter() - began
        spent.processor = {name: _cpu(process) - before[name] for name, process in processes.items()}
        spent.processor["this program"] = _cpu(psutil.Process()) - own

    @staticmethod
    def process(service: Service) -> psutil.Process:
        """The process of a service."""
        assert service._process is not None
        return psutil.Process(service._process.pid)

    def stop(self) -> None:
        """Stop what runs."""
        self._reader.close()
        for service in self.services.values():
            service.stop()
        self.services.clear()

    def stop_one(self, name: str) -> None:
        """Stop one service."""
        self.services.pop(name).stop()

    @staticmethod
    def _kafka() -> psutil.Process:
        children = psutil.Process(os.getpid()).children(recursive=True)
        return next(child for child in children if "java" in child.name())


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def spread(values: Sequence[float]) -> str:
    """Median, least and most."""
    ordered = sorted(values)
    return f"{ordered[len(ordered) // 2]:.2f} ({ordered[0]:.2f} to {ordered[-1]:.2f})"
