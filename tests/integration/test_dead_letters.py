"""`headrace dlq` on real Kafka: what was put aside is seen, comes back, or is closed for good."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker
from headrace.deadletters.progress import Progress, Standing
from headrace.kafka.clients import Cluster
from headrace.proof.verify import Outcome, Verification
from headrace.stage.contract import Message, Stage
from headrace.topics import CHUNKS, DEAD_LETTERS
from headrace_files.assembler.service import Assembler
from headrace_files.assembler.settings import AssemblerSettings
from tests.support.dead import as_json, headrace, put_aside, sent_back
from tests.support.feeding import FedFile, Feeder
from tests.support.processes import HEADRACE
from tests.support.running import dead_letters, header, new_cluster, receipts_on_log, running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

MEBIBYTE = 1024 * 1024


@pytest.fixture
def cluster(broker: EmbeddedBroker, prefix: str) -> Cluster:
    return new_cluster(broker.bootstrap, prefix)


@pytest.fixture
def feeder(cluster: Cluster) -> Feeder:
    return Feeder(cluster)


@pytest.fixture
def group(cluster: Cluster) -> str:
    return cluster.group_name("assembler", "test")


def assembler(place: Path, *, devices: bool = False) -> Stage:
    return Assembler(AssemblerSettings(root=place, device_names="allow" if devices else "refuse"))


def send(feeder: Feeder, *files: FedFile, whole: bool = True) -> None:
    for file in files:
        feeder.send(file, *([file.whole()] if whole else file.frames()))
        feeder.announce(file)


def exit_code_of_verify(cluster: Cluster) -> int:
    outcome = Outcome()
    list(Verification(cluster).run(outcome))
    return outcome.exit_code


def run_until(cluster: Cluster, stage: Stage, outcomes: int) -> None:
    """Run a stage until that many receipts are on the log, decisions on dead letters not counted."""

    def there() -> bool:
        own = [ack for ack in receipts_on_log(cluster) if not ack.group.endswith("dlq")]
        assert len(own) >= outcomes, f"{len(own)} of {outcomes} receipts"
        return True

    with running(stage, cluster):
        wait_until(there, within=30)


def letters(output: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [line for line in lines if line["kind"] == "dead-letter"]


def test_what_was_refused_is_listed_and_comes_back_once_the_setting_is_mended(
    cluster: Cluster, feeder: Feeder, tmp_path: Path
) -> None:
    files = [FedFile(f"CON.{number}".encode(), bytes([number]) * 100) for number in range(3)]
    send(feeder, *files, FedFile(b"good.txt", b"good"))
    run_until(cluster, assembler(tmp_path), 4)
    assert exit_code_of_verify(cluster) == 3
    code, output = headrace(cluster, "dlq", "list")
    assert code == 3
    assert "3 open." in output
    assert "device-name" in output

    code, output = headrace(cluster, "dlq", "redrive", "--dry-run", "--json")
    assert code == 0
    assert as_json(output)["chosen"] == 3
    assert not sent_back(cluster)

    code, output = headrace(cluster, "dlq", "redrive", "--json")
    assert code == 0, output
    assert as_json(output)["redriven"] == 3
    run_until(cluster, assembler(tmp_path, devices=True), 7)
    assert {(tmp_path / f"CON.{number}").read_bytes() for number in range(3)} == {file.content for file in files}
    assert exit_code_of_verify(cluster) == 0
    code, output = headrace(cluster, "dlq", "list")
    assert (code, "No dead letter is open." in output) == (0, True)
    code, output = headrace(cluster, "dlq", "redrive", "--json")
    assert (code, as_json(output)["redriven"]) == (0, 0)


def test_a_message_that_dies_again_counts_its_attempts_until_it_is_quarantined(
    cluster: Cluster, feeder: Feeder, tmp_path: Path
) -> None:
    send(feeder, FedFile(b"CON", b"never"))
    for attempt in (1, 2, 3):
        run_until(cluster, assembler(tmp_path), attempt)
        (letter,) = (each for each in dead_letters(cluster) if header(each, "dlq-attempt") == str(attempt))
        assert header(letter, "dlq-first-offset") == "0"
        code, output = headrace(cluster, "dlq", "redrive", "--max-attempts", "3", "--json")
        assert code == (3 if attempt == 3 else 0)
    assert as_json(output)["stay"]["quarantined"] == 1
    assert len({header(each, "dlq-first-failed") for each in dead_letters(cluster)}) == 1
    code, output = headrace(cluster, "dlq", "redrive", "--max-attempts", "3", "--force", "--json")
    assert (code, as_json(output)["redriven"]) == (0, 1)


def test_filters_choose_and_what_they_leave_stays_open(cluster: Cluster, group: str) -> None:
    files = [FedFile(f"file-{number}".encode(), b"x") for number in range(6)]
    other = cluster.group_name("archiver", "lake")
    put_aside(cluster, files[:3], group)
    put_aside(cluster, files[3:], other)
    code, output = headrace(cluster, "dlq", "redrive", "--service", "archiver", "--json")
    assert (code, as_json(output)["redriven"]) == (0, 3)
    code, output = headrace(cluster, "dlq", "redrive", "--item", files[1].item, "--json")
    assert (code, as_json(output)["redriven"]) == (0, 1)
    _, output = headrace(cluster, "dlq", "list", "--json")
    assert {line["item"] for line in letters(output)} == {files[0].item, files[2].item}
    assert {line["state"] for line in letters(headrace(cluster, "dlq", "list", "--all", "--json")[1])} == {
        "open", "redriven"
    }  # fmt: skip
    for nothing in (("--reason", "other"), ("--topic", "files"), ("--until", "1h"), ("--job", "j")):
        assert as_json(headrace(cluster, "dlq", "redrive", *nothing, "--json")[1])["redriven"] == 0
    code, output = headrace(
        cluster, "dlq", "redrive", "--reason", "test-refused", "--topic", "chunks", "--since", "1h", "--json"
    )
    assert (code, as_json(output)["redriven"]) == (0, 2)
    assert set(sent_back(cluster).values()) == {1}
    assert len(sent_back(cluster)) == 6


def test_a_redrive_that_is_killed_goes_on_and_sends_each_letter(cluster: Cluster, group: str, tmp_path: Path) -> None:
    put_aside(cluster, [FedFile(f"file-{number}".encode(), bytes(2000)) for number in range(300)], group)
    marker = tmp_path / "marker"
    environment = {
        "HEADRACE_KAFKA__BOOTSTRAP": cluster.bootstrap, "HEADRACE_KAFKA__PREFIX": cluster.settings.prefix,
        "HEADRACE_KILL_POINT": "dlq.after-publish-before-decision:100", "HEADRACE_KILL_MARKER": str(marker),
    }  # fmt: skip
    process = subprocess.Popen([HEADRACE, "dlq", "redrive"], env={**os.environ, **environment})
    wait_until(marker.exists, within=30)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = sent_back(cluster)
    assert 100 <= len(before) <= 300

    code, output = headrace(cluster, "dlq", "redrive", "--json")
    assert code == 0, output
    outcome = as_json(output)
    found = sent_back(cluster)
    assert len(found) == 300
    assert sorted(outcome["twice"]) == sorted(letter for letter, count in found.items() if count > 1)
    assert outcome["found"] + outcome["redriven"] + 99 >= 300
    assert outcome["found"] > 0
    assert headrace(cluster, "dlq", "list")[0] == 0


def test_what_a_killed_run_sent_is_recorded_and_what_went_twice_is_listed(cluster: Cluster, group: str) -> None:
    file = FedFile(b"one", b"1")
    put_aside(cluster, [file, FedFile(b"two", b"2")], group)
    (letter,) = (each for each in dead_letters(cluster) if each.key() == file.key)
    producer = cluster.producer()
    origin = [("dlq-origin-partition", str(letter.partition())), ("dlq-origin-offset", str(letter.offset()))]
    for _ in range(2):
        producer.produce(
            cluster.topic_name(CHUNKS), file.whole(), file.key, partition=letter.partition(),
            headers=[("hr-redrive-for", group), *origin],
        )  # fmt: skip
    producer.flush()
    with Progress(cluster) as progress:
        progress.commit(Standing(progress.read().lows, time.time_ns() // 1_000_000))
    code, output = headrace(cluster, "dlq", "redrive", "--json")
    outcome = as_json(output)
    assert (code, outcome["found"], outcome["redriven"]) == (0, 1, 1)
    assert outcome["twice"] == [f"{letter.partition()}:{letter.offset()}"]
    assert headrace(cluster, "dlq", "list")[0] == 0


def test_frames_of_a_file_in_pieces_are_replayed_as_a_whole_instead(
    cluster: Cluster, feeder: Feeder, tmp_path: Path
) -> None:
    file = FedFile(b"CON", bytes(10_000))
    send(feeder, file, whole=False)
    run_until(cluster, assembler(tmp_path), 1)
    code, output = headrace(cluster, "dlq", "redrive")
    assert code == 3
    assert f"headrace replay --file {file.item}" in output
    assert not sent_back(cluster)


def test_what_is_discarded_is_closed_in_list_and_books(cluster: Cluster, feeder: Feeder, tmp_path: Path) -> None:
    send(feeder, FedFile(b"CON", b"unwanted"))
    feeder.raw(CHUNKS, b"junk", b"\xff\xfe", 0)
    feeder.flush()
    run_until(cluster, assembler(tmp_path), 2)
    assert exit_code_of_verify(cluster) == 3
    assert headrace(cluster, "dlq", "discard", "--yes")[0] == 2
    assert headrace(cluster, "dlq", "discard", "--service", "assembler")[0] == 2
    assert exit_code_of_verify(cluster) == 3
    code, output = headrace(
        cluster, "dlq", "discard", "--service", "assembler", "--because", "a test, in vain", "--yes", "--json"
    )
    assert (code, as_json(output)["discarded"]) == (0, 2)
    assert exit_code_of_verify(cluster) == 0
    assert headrace(cluster, "dlq", "list")[0] == 0
    closed = letters(headrace(cluster, "dlq", "list", "--all", "--json")[1])
    assert {(line["state"], line["because"]) for line in closed} == {("discarded", "a test, in vain")}
    assert as_json(headrace(cluster, "dlq", "redrive", "--force", "--json")[1])["redriven"] == 0


def test_a_message_at_the_size_limit_is_put_aside_and_comes_back(
    cluster: Cluster, feeder: Feeder, tmp_path: Path
) -> None:
    file = FedFile(b"CON", os.urandom(2 * MEBIBYTE), chunk=2 * MEBIBYTE)
    send(feeder, file)
    run_until(cluster, assembler(tmp_path), 1)
    (letter,) = dead_letters(cluster)
    assert letter.value() == file.whole()
    assert headrace(cluster, "dlq", "redrive")[0] == 0
    run_until(cluster, assembler(tmp_path, devices=True), 2)
    assert (tmp_path / "CON").read_bytes() == file.content


def test_show_masks_what_may_be_personal(cluster: Cluster, feeder: Feeder, tmp_path: Path) -> None:
    file = FedFile(b"Jane Doe/CON", b"secret bytes")
    send(feeder, file)
    run_until(cluster, assembler(tmp_path), 1)
    code, output = headrace(cluster, "dlq", "show", "--json")
    assert code == 0
    shown = as_json(output)
    assert shown["content"]["kind"] == "whole"
    assert shown["content"]["b"]["bytes"] == len(file.content)
    assert shown["key"] == file.key.decode()
    assert "Jane" not in json.dumps(shown["content"])
    assert "secret" not in output
    code, output = headrace(cluster, "dlq", "show", shown["id"], "--unmask", "--json")
    assert as_json(output)["content"]["path"] == "Jane Doe/CON"
    assert "secret" not in output
    assert headrace(cluster, "dlq", "show", "0:999999")[0] == 1
    assert headrace(cluster, "dlq", "show", "nonsense")[0] == 2


def test_an_old_version_that_is_re_driven_late_does_not_replace_the_new_one(
    cluster: Cluster, feeder: Feeder, tmp_path: Path
) -> None:
    """Neither in the process that delivered the new one, nor in one that has not read its receipt."""
    old, new = FedFile(b"CON", b"old"), FedFile(b"CON", b"new content")
    send(feeder, old)
    run_until(cluster, assembler(tmp_path), 1)
    send(feeder, new)
    run_until(cluster, assembler(tmp_path, devices=True), 2)
    assert headrace(cluster, "dlq", "redrive")[0] == 0
    run_until(cluster, assembler(tmp_path, devices=True), 3)
    assert (tmp_path / "CON").read_bytes() == b"new content"
    (last,) = (ack for ack in receipts_on_log(cluster) if ack.item == old.item and ack.last > ack.first)
    assert (last.covers[0].outcome, last.covers[0].code) == ("unchanged", "superseded")
    assert exit_code_of_verify(cluster) == 0


def test_other_groups_skip_what_is_re_driven(cluster: Cluster, group: str, tmp_path: Path) -> None:
    put_aside(cluster, [FedFile(b"file", b"content")], cluster.group_name("assembler", "elsewhere"))
    assert headrace(cluster, "dlq", "redrive")[0] == 0
    seen: list[Message] = []
    stage = assembler(tmp_path)
    stage.handle = seen.extend  # type: ignore[method-assign]
    with running(stage, cluster) as loop:
        wait_until(lambda: sum(track.position for track in loop.loop._tracks.values()) >= 1, within=20)
    assert not seen


def test_a_message_that_says_nothing_of_where_it_came_from_can_only_be_discarded(cluster: Cluster) -> None:
    producer = cluster.producer()
    topic = cluster.topic_name(DEAD_LETTERS)
    foreign = [
        ("dlq-topic", b"__consumer_offsets"),
        ("dlq-service", b"x"),
        ("dlq-offset", b"1"),
    ]
    producer.produce(topic, b"junk", b"key", partition=0)
    producer.produce(topic, b"junk", None, partition=0, headers=[*foreign, ("dlq-partition", b"0")])
    producer.produce(topic, b"junk", None, partition=1, headers=[("dlq-topic", b"\xff"), ("dlq-attempt", b"9" * 50)])
    producer.flush()
    code, output = headrace(cluster, "dlq", "redrive", "--force", "--json")
    assert (code, as_json(output)["stay"]["no-way-back"]) == (3, 3)
    assert headrace(cluster, "dlq", "show", "--unmask")[0] == 0
    code, output = headrace(cluster, "dlq", "discard", "0:0", "0:1", "1:0", "--yes")
    assert code == 0
    assert headrace(cluster, "dlq", "list")[0] == 0
