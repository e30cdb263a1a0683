"""Ten thousand dead letters, and a redrive that is killed in the middle, again and again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker
from tests.support.chaos import new_seed
from tests.support.dead import as_json, headrace, put_aside, sent_back
from tests.support.feeding import FedFile
from tests.support.processes import HEADRACE
from tests.support.running import new_cluster
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

LETTERS = 10_000


@pytest.mark.long
@pytest.mark.timeout(600)
def test_ten_thousand_letters_all_come_back_though_the_redrive_is_killed(
    broker: EmbeddedBroker, prefix: str, tmp_path: Path, say: Callable[[str], None]
) -> None:
    seed = new_seed()
    cluster = new_cluster(broker.bootstrap, prefix)
    files = [FedFile(f"file-{number}".encode(), os.urandom(1000), ctime_ns=number) for number in range(LETTERS)]
    put_aside(cluster, files, cluster.group_name("assembler", "test"))
    environment = {
        **os.environ,
        "HEADRACE_KAFKA__BOOTSTRAP": cluster.bootstrap,
        "HEADRACE_KAFKA__PREFIX": cluster.settings.prefix,
    }
    kills = []
    for passage in (1 + seed % 1000, 2000, 3000):
        marker = tmp_path / f"marker-{passage}"
        armed = {
            "HEADRACE_KILL_POINT": f"dlq.after-publish-before-decision:{passage}",
            "HEADRACE_KILL_MARKER": str(marker),
        }
        process = subprocess.Popen([HEADRACE, "dlq", "redrive"], env=environment | armed)
        wait_until(marker.exists, within=60)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills.append(len(sent_back(cluster)))
    code, output = headrace(cluster, "dlq", "redrive", "--json")
    outcome = as_json(output)
    found = sent_back(cluster)
    say(
        f"seed {seed}: sent back after each kill {kills}; at the end {len(found)} letters in {found.total()} messages,"
        f" {outcome['found']} recorded for a killed run, {outcome['redriven']} sent by the last,"
        f" {len(outcome['twice'])} twice"
    )
    assert code == 0, output
    assert len(found) == LETTERS
    assert sorted(outcome["twice"]) == sorted(letter for letter, count in found.items() if count > 1)
    assert headrace(cluster, "dlq", "list", "--json")[0] == 0
    assert as_json(headrace(cluster, "dlq", "redrive", "--json")[1])["redriven"] == 0
