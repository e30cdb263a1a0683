"""What a user of `headrace upload` would miss."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker
from headrace.kafka.clients import Cluster
from tests.support import oracle
from tests.support.processes import HEADRACE, Service
from tests.support.running import new_cluster
from tests.support.sent import contents, versions
from tests.support.terminal import Terminal
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def cluster(broker: EmbeddedBroker, prefix: str) -> Cluster:
    return new_cluster(broker.bootstrap, prefix)


@pytest.fixture
def environment(cluster: Cluster) -> dict[str, str]:
    return {"HEADRACE_KAFKA__BOOTSTRAP": cluster.bootstrap, "HEADRACE_KAFKA__PREFIX": cluster.settings.prefix}


@pytest.fixture
def assembler(cluster: Cluster, tmp_path: Path, environment: dict[str, str]) -> Iterator[Service]:
    service = Service("assemble", tmp_path, ["assemble", tmp_path / "tree", "--sink", "site"], environment)
    yield service
    service.kill()


def upload(
    environment: dict[str, str], *arguments: object, program: Path = HEADRACE
) -> subprocess.CompletedProcess[str]:
    command = [str(program), *(["upload"] if program == HEADRACE else []), *(str(argument) for argument in arguments)]
    return subprocess.run(
        command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


def said(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_files_are_on_the_log_when_the_command_returns(
    cluster: Cluster, tmp_path: Path, environment: dict[str, str]
) -> None:
    files = {name: os.urandom(size) for name, size in (("a", 10), ("empty", 0), ("b", 3_000_000))}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    done = upload(environment, *(tmp_path / name for name in files))
    assert done.returncode == 0, done.stderr
    assert "3 files, 3,000,010 bytes" in done.stdout
    assert contents(cluster.bootstrap, cluster.settings.prefix) == {
        name.encode(): [content] for name, content in files.items()
    }


def test_names_keep_their_folders_below_a_root_and_must_not_collide(
    cluster: Cluster, tmp_path: Path, environment: dict[str, str]
) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same").write_text(folder)
    both = (tmp_path / "one/same", tmp_path / "two/same")
    refused = upload(environment, *both)
    assert refused.returncode == 2
    assert "--root" in refused.stderr
    assert upload(environment, "--root", tmp_path, *both).returncode == 0
    assert contents(cluster.bootstrap, cluster.settings.prefix) == {b"one/same": [b"one"], b"two/same": [b"two"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing"], "No such file"),
        (["."], "it is a folder"),
        (["--chunk_size", "10000", "file"], "power of two"),
        (["--chunk_size", "64MiB", "file"], "the topic takes"),
        (["--chunk_size", "many", "file"], "no size"),
        (["--root", "sub", "file"], "not in the folder"),
    ],
)
def test_wrong_use_is_told_in_a_line_with_exit_code_2_before_anything_is_sent(
    cluster: Cluster, tmp_path: Path, environment: dict[str, str], arguments: list[str], words: str
) -> None:
    (tmp_path / "file").write_bytes(b"1")
    places = [str(tmp_path / each) if each in ("missing", ".", "file", "sub") else each for each in arguments]
    done = upload(environment, *places)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert contents(cluster.bootstrap, cluster.settings.prefix) == {}


def test_it_waits_until_an_assembler_has_rebuilt_every_file(
    cluster: Cluster, tmp_path: Path, environment: dict[str, str], assembler: Service
) -> None:
    (tmp_path / "file").write_bytes(os.urandom(2_000_000))
    (tmp_path / "other").write_bytes(b"")
    assembler.start()
    done = upload(environment, "--wait", "assembled", "--sink", "site", "--json", tmp_path / "file", tmp_path / "other")
    assert done.returncode == 0, done.stderr
    events = said(done)
    assert sorted(str(event["event"]) for event in events) == ["delivered", "delivered", "done", "sent", "sent"]
    assert (tmp_path / "tree/file").read_bytes() == (tmp_path / "file").read_bytes()
    # An old receipt is no answer: the same file is sent again, and waited for again.
    again = upload(environment, "--wait", "assembled", "--timeout", "20s", "--json", tmp_path / "file")
    assert again.returncode == 0, again.stderr
    assert said(again)[-2]["event"] in ("delivered", "unchanged")


def test_without_a_receipt_in_time_it_ends_detached(
    cluster: Cluster, tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "file").write_bytes(b"1")
    done = upload(environment, "--wait", "assembled", "--timeout", "1s", tmp_path / "file")
    assert done.returncode == 4
    assert "no receipt came in time" in done.stdout


def test_an_upload_that_was_killed_goes_on_where_it_was(
    cluster: Cluster, tmp_path: Path, environment: dict[str, str]
) -> None:
    content = os.urandom(60_000_000)
    (tmp_path / "large").write_bytes(content)
    first = Service("upload", tmp_path, ["upload", tmp_path / "large"], environment)
    first.start("sender.between-frames:200")
    first.await_point()
    chunks = cluster.settings.prefix + "chunks"
    wait_until(lambda: sum(1 for _ in oracle.messages(cluster.bootstrap, chunks)) >= 200, within=20)
    first.kill()
    done = upload(environment, tmp_path / "large")
    assert done.returncode == 0, done.stderr
    (version,) = versions(cluster.bootstrap, cluster.settings.prefix).values()
    assert version.content == content
    assert version.kinds.count("open") == 1
    assert version.bytes_on_log < len(content) + 40_000_000


def test_a_terminal_sees_a_bar_with_bytes_rate_and_time_left(
    cluster: Cluster, tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "large").write_bytes(os.urandom(150_000_000))
    terminal = Terminal([HEADRACE, "upload", tmp_path / "large"], environment)
    terminal.expect(r"sending.*/150\.0 MB.*MB/s.*0:00:0\d")
    terminal.expect(r"1 files, 150,000,000 bytes in")
    assert terminal.ended() == 0


def test_the_old_programs_send_with_their_old_arguments(
    cluster: Cluster, tmp_path: Path, environment: dict[str, str]
) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "one").write_bytes(b"1" * 40_000)
    (folder / ".hidden").write_bytes(b"2")
    (folder / "sub/two").write_bytes(b"3")
    (tmp_path / "single").write_bytes(b"4" * 40_000)
    old = HEADRACE.parent
    done = upload(
        environment, tmp_path / "single", "--n_threads", 2, "--chunk_size", 4096, program=old / "upload_data_file"
    )
    assert done.returncode == 0, done.stderr
    watcher = Terminal(
        [
            old / "upload_data_files_added_to_directory",
            *(folder, "--n_threads=3", "--queue_max_size=100", "--update_seconds=1", "--chunk_size=8192"),
        ],
        environment | {"HEADRACE_LOG__LEVEL": "error"},
    )
    watcher.expect(r"\.")
    wait_until(lambda: b"one" in contents(cluster.bootstrap, cluster.settings.prefix), within=20)
    watcher.type("check")
    watcher.expect("1 sent, 0 in progress, 0 waiting")
    watcher.type("q")
    watcher.expect("1 files sent")
    assert watcher.ended() == 0
    found = versions(cluster.bootstrap, cluster.settings.prefix).values()
    assert {version.path: len(version.pieces) for version in found} == {b"single": 10, b"one": 5}
