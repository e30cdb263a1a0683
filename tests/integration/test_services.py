"""Services as processes: `headrace run` and `headrace up`, seen from outside."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from headrace.broker import EmbeddedBroker, free_port
from tests.support.running import new_cluster
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


class Process:
    """A `headrace` process and the records that it logs."""

    def __init__(self, folder: Path, arguments: list[str], environment: dict[str, str]) -> None:
        self._log = (folder / "log").open("wb")
        self.path = folder / "log"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "headrace", *arguments],
            cwd=folder,
            env={**os.environ, **environment},
            stderr=self._log,
            stdout=self._log,
        )

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines() if line.startswith("{")]

    def events(self, event: str, **fields: object) -> list[dict[str, Any]]:
        wanted = {"event": event, **fields}
        return [each for each in self.records() if wanted.items() <= each.items()]

    def end(self, number: int = signal.SIGTERM, within: float = 30) -> int:
        self.process.send_signal(number)
        return self.process.wait(within)

    def close(self) -> None:
        if self.process.poll() is None:
            family = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            self.process.wait()
            for each in family:
                each.kill()
        self._log.close()


@contextmanager
def headrace(folder: Path, *arguments: str, **environment: str) -> Iterator[Process]:
    process = Process(folder, list(arguments), environment)
    try:
        yield process
    finally:
        process.close()


@pytest.fixture
def configured(broker: EmbeddedBroker, prefix: str, tmp_path: Path) -> Path:
    """A folder with a headrace.toml for two assemblers on this test's topics."""
    new_cluster(broker.bootstrap, prefix)
    (tmp_path / "headrace.toml").write_text(
        f'[kafka]\nbootstrap = "{broker.bootstrap}"\nprefix = "{prefix}"\n'
        '[up]\nservices = ["assembler.a", "assembler.b"]\nbackoff_first = "100ms"\n'
        '[assembler.a]\nroot = "a"\nsink = "a"\n[assembler.b]\nroot = "b"\nsink = "b"\n'
    )
    return tmp_path


def get(url: str) -> tuple[int, str]:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=5)
    connection.request("GET", address.path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_a_service_shows_its_health_and_metrics_and_drains_at_sigterm(configured):
    with headrace(configured, "run", "assembler.a") as process:
        (serving,) = wait_until(lambda: process.events("metrics and health"), within=20)
        base = serving["url"].removesuffix("/metrics")
        assert "127.0.0.1" in base
        wait_until(lambda: get(f"{base}/readyz")[0] == 200, within=20)
        assert get(f"{base}/healthz")[0] == 200
        wait_until(lambda: 'headrace_lag{partition="0",topic="chunks"} 0.0' in get(f"{base}/metrics")[1])
        assert process.end() == 0
        assert process.events("stopped", service="assembler.a")


def test_a_source_shows_what_it_has_sent(configured):
    (configured / "in").mkdir()
    (configured / "in" / "file").write_bytes(b"1234567")
    variables = {"HEADRACE_DIRECTORY_SOURCE__ROOT": "in", "HEADRACE_DIRECTORY_SOURCE__SETTLE": "0s"}
    with headrace(configured, "run", "directory_source", **variables) as process:
        (serving,) = wait_until(lambda: process.events("metrics and health"), within=20)
        wait_until(lambda: 'source_files_total{result="announced"} 1.0' in get(serving["url"])[1], within=20)
        wait_until(lambda: "headrace_source_bytes_total 7.0" in get(serving["url"])[1])
        assert process.end() == 0


def test_a_service_whose_topics_are_missing_says_how_to_create_them(configured):
    with headrace(configured, "run", "assembler.a", HEADRACE_KAFKA__PREFIX="nothing.") as process:
        assert process.process.wait(20) == 2
        assert "headrace topics apply" in process.path.read_text()


def test_a_service_that_starts_before_its_kafka_waits_for_it_and_can_be_stopped(configured):
    with headrace(configured, "--bootstrap", f"127.0.0.1:{free_port()}", "run", "assembler.a") as process:
        wait_until(lambda: process.events("waiting for Kafka"), within=30)
        assert process.end() == 0


def test_up_starts_again_what_is_killed_and_ends_everything_in_good_order(configured):
    with headrace(configured, "up") as process:
        wait_until(lambda: len(process.events("partitions assigned")) == 2, within=30)
        pids = {each["name"]: each["pid"] for each in process.events("service started")}
        os.kill(pids["assembler.a"], signal.SIGKILL)
        wait_until(lambda: len(process.events("partitions assigned", service="assembler.a")) == 2, within=30)
        assert process.events("service ended", name="assembler.a")[0]["ended"] == "by SIGKILL"
        assert process.end() == 0
        assert len(process.events("stopped")) == 2


def test_services_do_not_outlive_a_supervisor_that_was_killed(configured):
    with headrace(configured, "up") as process:
        wait_until(lambda: len(process.events("partitions assigned")) == 2, within=30)
        process.end(signal.SIGKILL)
        wait_until(lambda: len(process.events("stopped")) == 2, within=20)


@pytest.fixture
def own_machine(tmp_path: Path) -> Iterator[Path]:
    """A folder with a headrace.toml that names no Kafka, and a state of its own."""
    (tmp_path / "headrace.toml").write_text(
        f'[broker]\nport = {free_port()}\n[up]\nservices = ["assembler"]\n[assembler]\nroot = "tree"\n'
    )
    yield tmp_path
    EmbeddedBroker(tmp_path / "state" / "broker").kill()


def test_up_runs_the_embedded_kafka_starts_it_again_and_stops_it_at_the_end(own_machine):
    broker = EmbeddedBroker(own_machine / "state" / "broker")
    with headrace(own_machine, "up", HEADRACE_STATE=str(own_machine / "state")) as process:
        wait_until(lambda: process.events("partitions assigned"), within=120)
        broker.kill()
        wait_until(lambda: broker.status().answering, within=60)
        assert process.events("the embedded Kafka is gone; starting it again")
        assert process.end(within=60) == 0
    assert not broker.status().running
