"""`headrace broker` as a person or a script uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker, free_port
from headrace.broker.probe import answers

pytestmark = pytest.mark.kafka

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def headrace(tmp_path: Path) -> Iterator[Run]:
    """Runs the command line with a state folder of its own, and ends the broker in it."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = "import sys; from headrace.cli import main; main(sys.argv[1:])"
        environment = {**os.environ, "HEADRACE_STATE": str(tmp_path)}
        command = [sys.executable, "-c", program, "broker", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    yield run
    EmbeddedBroker(tmp_path / "broker").kill()


def test_start_status_stop_reset(headrace: Run, tmp_path: Path) -> None:
    port = free_port()
    assert headrace("status").returncode == 1

    started = headrace("start", "--port", str(port))
    assert started.returncode == 0, started.stderr
    assert f"127.0.0.1:{port}" in started.stdout
    assert answers(port)

    again = headrace("start")
    assert again.returncode == 0
    assert f"already answers on 127.0.0.1:{port}" in again.stdout

    status = headrace("status", "--json")
    assert status.returncode == 0
    assert json.loads(status.stdout)["port"] == port

    refused = headrace("reset")
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert answers(port)

    assert headrace("stop").returncode == 0
    assert not answers(port)
    assert (tmp_path / "broker" / "data" / "meta.properties").exists()

    assert headrace("reset", "--yes").returncode == 0
    assert not (tmp_path / "broker" / "data").exists()


def test_a_taken_port_is_wrong_usage(headrace: Run, broker: EmbeddedBroker) -> None:
    clash = headrace("start", "--port", str(broker.port))
    assert clash.returncode == 2
    assert f"Port {broker.port}" in clash.stderr
    assert f"java (process {broker.pid})" in clash.stderr
