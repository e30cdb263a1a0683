"""SIGKILL at random to two bridges and two assemblers while OpenMSIStream keeps sending; the seed is printed."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker
from tests.support.dead import headrace
from tests.support.feeding import Feeder
from tests.support.openmsi import TheirFile, send, their_topic
from tests.support.processes import Service
from tests.support.running import new_cluster
from tests.support.verifying import books_wrong
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


@pytest.mark.long
@pytest.mark.timeout(600)
def test_bridges_and_assemblers_that_are_killed_lose_nothing(
    broker: EmbeddedBroker, prefix: str, tmp_path: Path, say: Callable[[str], None]
) -> None:
    seed = int(os.environ.get("HEADRACE_CHAOS_SEED", time.time_ns() % 1_000_000))
    choose = random.Random(seed)
    say(f"seed {seed}")
    cluster = new_cluster(broker.bootstrap, prefix)
    topic, feeder, place = their_topic(cluster), Feeder(cluster), tmp_path / "tree"
    environment = {
        "HEADRACE_KAFKA__BOOTSTRAP": cluster.bootstrap,
        "HEADRACE_KAFKA__PREFIX": cluster.settings.prefix,
        "HEADRACE_OPENMSI_BRIDGE__SESSION_TIMEOUT": "6s",
        "HEADRACE_ASSEMBLER__SESSION_TIMEOUT": "6s",
    }
    commands = {"bridge": ["bridge", topic.name], "assemble": ["assemble", place, "--sink", "tree"]}
    services = [
        Service(f"{name} {number}", tmp_path, [*command, "--metrics-port", "0"], environment)
        for name, command in commands.items()
        for number in (1, 2)
    ]
    for service in services:
        service.start()
    files: list[TheirFile] = []
    for number in range(40):
        new = [
            TheirFile(f"file-{number}-{each}.dat", choose.randbytes(choose.randrange(1, 300_000)), f"run/{number % 7}")
            for each in range(choose.randrange(1, 8))
        ]
        files += new
        send(feeder, topic, *new)
        # A random moment is the point: there is no condition to wait for.
        time.sleep(choose.uniform(0.1, 1.2))
        victim = choose.choice(services)
        victim.kill()
        time.sleep(choose.choice([0.0, 0.0, 0.5]))
        victim.start()
    sent = {file.path: file.content for file in files}
    wait_until(lambda: tree(place) == sent, within=120)
    wait_until(lambda: headrace(cluster, "verify", "--deep")[0] == 0, within=60, every=2)
    say(f"{len(files)} files, {sum(service.kills for service in services)} kills")
    for service in services:
        service.stop()
    assert books_wrong(cluster) == []


def tree(place: Path) -> dict[str, bytes]:
    """The rebuilt files."""
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file() and ".headrace" not in path.parts
    }
