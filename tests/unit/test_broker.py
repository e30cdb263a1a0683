"""What of the embedded broker needs no broker: its settings, its records, what is said when it cannot start."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker, free_port, probe, process
from headrace.broker.archive import ensure_archive
from headrace.broker.errors import DiskTooFull, JarsNotFetched, JavaMissing, MavenMissing
from headrace.broker.jars import Jars, ensure_jars
from headrace.broker.java import Java, find_java
from headrace.broker.process import Record
from headrace.broker.properties import server_properties, write_properties
from headrace.resources import ResourceMissing, cache_folder, resource, state_folder


def program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_no_java_is_said_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JavaMissing, match=r"none is on PATH.*apt-get install openjdk-17-jdk-headless"):
        EmbeddedBroker(tmp_path / "broker", free_port()).start()


def test_a_java_home_without_java_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    with pytest.raises(JavaMissing, match=r"JAVA_HOME=.*gone"):
        find_java()


@pytest.mark.parametrize("version", ["1.8.0_412", "11.0.2"])
def test_a_java_that_is_too_old_is_named_with_its_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    program(tmp_path / "bin", "java", f"echo 'openjdk version \"{version}\"' >&2")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(JavaMissing, match=version):
        find_java()


def test_another_build_of_java_gets_another_class_data_archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path / "bin", "java", "exit 1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    fingerprints = []
    for build in ("17.0.15+6", "17.0.16+8"):
        (tmp_path / "release").write_text(f'JAVA_VERSION="17.0.15"\nJAVA_RUNTIME_VERSION="{build}"\n')
        fingerprints.append(find_java().fingerprint)
    assert fingerprints[0] != fingerprints[1]


def test_no_maven_is_said_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MavenMissing, match="apt-get install maven"):
        ensure_jars()


def test_a_fetch_that_fails_leaves_nothing_and_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path / "bin", "mvn", "echo '[ERROR] Network is unreachable'; exit 1")
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    with pytest.raises(JarsNotFetched, match="Network is unreachable"):
        ensure_jars()
    assert [path.name for path in (tmp_path / "cache" / "kafka").iterdir()] == ["fetch.lock"]


def test_a_fetch_happens_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    record = tmp_path / "runs"
    copy = "for argument; do case $argument in -DoutputDirectory=*) folder=${argument#*=};; esac; done"
    program(
        tmp_path / "bin", "mvn", f"echo run >>{record}; {copy}; mkdir -p $folder; touch $folder/b.jar $folder/a.jar"
    )
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    threads = [threading.Thread(target=ensure_jars) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert record.read_text() == "run\n"
    assert [Path(jar).name for jar in ensure_jars().classpath.split(os.pathsep)] == ["a.jar", "b.jar"]


def test_a_java_that_cannot_write_an_archive_is_asked_once(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    java = Java(program(tmp_path, "java", f"echo run >>{runs}; exit 1"), "17")
    jars = Jars(tmp_path / "cache" / "jars")
    jars.folder.mkdir(parents=True)
    for _ in range(2):
        assert ensure_archive(java, jars, heap_mebibytes=64, fast_start=True) is None
    assert runs.read_text() == "run\n"


def test_a_full_disk_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path, free_port(), least_free_mebibytes=10**9)
    with pytest.raises(DiskTooFull, match="MiB free"):
        broker.start()
    assert not broker.layout.data.exists()


def test_the_status_of_a_broker_that_never_ran(tmp_path: Path) -> None:
    status = EmbeddedBroker(tmp_path / "not" / "there", 29092).status()
    assert not status.running
    assert not status.answering
    assert status.data_bytes == 0
    assert status.free_bytes > 0
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x", "port": 1}', '{"pid": 1}', "null"])
def test_a_torn_record_counts_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broker.json"
    path.write_text(text)
    assert Record.read(path) is None


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "broker.json"
    Record(4711, 19092).write(path)
    assert Record.read(path) == Record(4711, 19092)


def test_only_a_broker_with_these_settings_is_ours(tmp_path: Path) -> None:
    settings = tmp_path / "server.properties"
    assert process.is_broker(["java", "-Xmx256m", "kafka.Kafka", str(settings)], settings)
    assert not process.is_broker(["java", "-Xmx256m", "kafka.Kafka", "/elsewhere/server.properties"], settings)
    assert not process.is_broker(["vim", str(settings)], settings)
    assert not process.is_broker([], settings)
    assert process.find(os.getpid(), settings) is None


def test_extra_listeners_are_added_and_other_properties_replaced(tmp_path: Path) -> None:
    extra = {"listeners": "SSL://127.0.0.1:3", "log.flush.interval.ms": "1"}
    properties = server_properties(data=tmp_path, port=1, controller_port=2, extra=extra)
    assert properties["listeners"] == "PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2,SSL://127.0.0.1:3"
    assert properties["log.flush.interval.ms"] == "1"


def test_properties_are_for_the_owner_only_and_keep_backslashes(tmp_path: Path) -> None:
    path = tmp_path / "server.properties"
    write_properties(path, {"log.dirs": "C:\\kafka"})
    assert path.read_text() == "log.dirs=C:\\\\kafka\n"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x00\x00\x08\x00\x00\x00\x01\x00\x00\x00\x00"]
)
def test_other_servers_and_brokers_without_a_cluster_do_not_count_as_an_answer(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert not probe.answers(server.getsockname()[1], within=2)
        thread.join()


def test_a_closed_port_is_no_answer_and_is_free() -> None:
    port = free_port()
    assert probe.is_free(port)
    assert not probe.answers(port)


def test_folders_follow_our_variable_then_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADRACE_CACHE", "/own")
    assert cache_folder() == Path("/own")
    monkeypatch.delenv("HEADRACE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/headrace")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "headrace"
    monkeypatch.delenv("HEADRACE_STATE", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert state_folder() == tmp_path / ".local" / "state" / "headrace"


def test_shipped_files_are_found_and_missing_ones_named() -> None:
    assert resource("deploy", "kafka", "pom.xml").is_file()
    with pytest.raises(ResourceMissing, match="deploy/nothing"):
        resource("deploy", "nothing")
