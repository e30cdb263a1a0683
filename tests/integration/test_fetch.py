"""What a user of `headrace fetch` would miss: the reference's table of downloads, and everything a server may do."""

from __future__ import annotations

import io
import json
import os
import random
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.broker import EmbeddedBroker, free_port
from headrace.kafka.clients import Cluster
from headrace_files.sandbox.sftp.openssh import find_sshd
from headrace_files.sftp_source.fetching import SYNC_EVERY
from tests.support import oracle
from tests.support.dead import headrace
from tests.support.processes import Service
from tests.support.running import new_cluster
from tests.support.sftp import KINDS, FaultySftp, OpenSsh, fingerprint, make_key
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

MEGABYTE = 1_000_000


@pytest.fixture
def cluster(broker: EmbeddedBroker, prefix: str) -> Cluster:
    return new_cluster(broker.bootstrap, prefix)


@pytest.fixture(scope="module")
def openssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSsh]:
    if find_sshd() is None:
        pytest.skip("OpenSSH's server is not on this machine: apt-get install openssh-server")
    server = OpenSsh(tmp_path_factory.mktemp("openssh"), free_port())
    yield server
    server.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultySftp]:
    server = FaultySftp(tmp_path / "server")
    yield server
    server.stop()


class Fetching:
    """Runs `headrace fetch` against a server, and reads what came onto the log."""

    def __init__(self, cluster: Cluster, folder: Path, server: FaultySftp | OpenSsh, *options: str | Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.state = folder / "state"
        self._scratch = folder / "scratch"
        self._scratch.mkdir()
        self.options = [
            "--host", "127.0.0.1", "--port", str(server.port), "--user", server.user, "--settle", "100ms",
            "--source", "test", *options,
        ]  # fmt: skip
        self.environment = {"HEADRACE_STATE": str(self.state), "HEADRACE_SFTP_SOURCE__TRIES": "2"}

    def run(self, *arguments: str | Path) -> tuple[int, list[dict[str, Any]]]:
        """Exit code, and the events that it tells."""
        code, output = self.text(*arguments, "--json")
        return code, [json.loads(line) for line in output.splitlines() if line.startswith('{"event"')]

    def text(self, *arguments: str | Path) -> tuple[int, str]:
        """Exit code and output."""
        return headrace(self.cluster, "fetch", *self.options, *arguments, environment=self.environment)

    def sent(self) -> dict[bytes, bytes]:
        """The newest whole version of each path on the log."""
        truth = oracle.rebuild(self.cluster.bootstrap, self.cluster.settings.prefix, self._scratch)
        newest = {path: version.spool for path, version in truth.newest().items()}
        return {path: spool.read_bytes() if spool.exists() else b"" for path, spool in newest.items()}

    def versions(self) -> int:
        """How many versions of files were begun."""
        truth = oracle.rebuild(self.cluster.bootstrap, self.cluster.settings.prefix, self._scratch)
        return len(truth.whole) + len(truth.others)

    def leftovers(self) -> list[str]:
        """What lies in the folder of unfinished files."""
        return sorted(place.name for place in (self.state / "sftp").rglob("*") if place.is_file())


@pytest.fixture
def fetching(cluster: Cluster, tmp_path: Path, server: FaultySftp) -> Fetching:
    password = tmp_path / "password"
    password.write_text(server.password)
    password.chmod(0o600)
    return Fetching(cluster, tmp_path, server, "--password-file", password, "--fingerprint", server.fingerprint)


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def zipped(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def put(server: FaultySftp, name: str, data: bytes, mtime: int = 1_700_000_000) -> Path:
    place = server.root / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    os.utime(place, (mtime, mtime))
    return place


# --- OpenSSH: keys and host keys ---


FORMS = (("", "RFC4716"), ("open sesame", "RFC4716"), ("open sesame", "PEM"))
# There is no such form of Ed25519 keys.
KEYS = [(kind, *form) for kind in KINDS for form in FORMS if (kind, form[1]) != ("ed25519", "PEM")]


@pytest.mark.parametrize(("kind", "passphrase", "form"), KEYS)
def test_every_kind_of_key_opens_an_openssh_server(
    cluster: Cluster, openssh: OpenSsh, tmp_path: Path, kind: str, passphrase: str, form: str
) -> None:
    key = make_key(tmp_path / "key", kind, passphrase, form)
    openssh.allow(key)
    options: list[str | Path] = ["--key-file", key, "--fingerprint", openssh.fingerprint]
    if passphrase:
        secret = tmp_path / "passphrase"
        secret.write_text(passphrase + "\n")
        secret.chmod(0o600)
        options += ["--key-passphrase-file", secret]
    fetching = Fetching(cluster, tmp_path, openssh, *options)
    file = tmp_path / "file.bin"
    file.write_bytes(content(3 * MEGABYTE))
    code, events = fetching.run(file)
    assert (code, [event["event"] for event in events]) == (0, ["waiting", "fetched", "sent", "done"])
    assert fetching.sent() == {str(file).lstrip("/").encode(): file.read_bytes()}
    assert fetching.leftovers() == []
    code, events = fetching.run(file)
    assert (code, [event["event"] for event in events]) == (0, ["unchanged", "done"])
    assert fetching.versions() == 1


def test_a_key_that_is_protected_or_unknown_says_what_to_do(cluster: Cluster, openssh: OpenSsh, tmp_path: Path) -> None:
    fetching = Fetching(cluster, tmp_path, openssh, "--fingerprint", openssh.fingerprint)
    protected = make_key(tmp_path / "protected", passphrase="secret")
    code, output = fetching.text("/x", "--key-file", protected)
    assert code == 2
    assert "it has a passphrase; set sftp_source.key_passphrase_file" in output
    stranger = make_key(tmp_path / "stranger")
    code, output = fetching.text("/x", "--key-file", stranger)
    assert code == 2
    assert f"does not let the user {openssh.user} in with its key" in output
    putty = tmp_path / "putty.ppk"
    putty.write_text("PuTTY-User-Key-File-3: ssh-ed25519\n")
    code, output = fetching.text("/x", "--key-file", putty)
    assert code == 2
    assert "puttygen" in output
    code, output = fetching.text("/x")
    assert code == 2
    assert "neither a password nor a private key" in output


def test_known_hosts_are_read_as_openssh_writes_them(cluster: Cluster, openssh: OpenSsh, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    openssh.allow(key)
    known = tmp_path / "known_hosts"
    fetching = Fetching(cluster, tmp_path, openssh, "--key-file", key, "--known-hosts", known)
    file = tmp_path / "file"
    file.write_bytes(b"content")
    code, output = fetching.text(file)
    assert code == 2
    assert openssh.fingerprint in output
    public = openssh.host_key.with_suffix(".pub").read_text()
    known.write_text(f"[127.0.0.1]:{openssh.port} {public}")
    assert fetching.text(file)[0] == 0
    other = make_key(tmp_path / "other").with_suffix(".pub")
    known.write_text(f"[127.0.0.1]:{openssh.port} {other.read_text()}")
    code, output = fetching.text(file)
    assert code == 2
    assert openssh.fingerprint in output
    assert fingerprint(other) in output


def test_a19_a_wrong_host_key_is_refused_by_name_before_the_password_is_said(
    fetching: Fetching, server: FaultySftp, tmp_path: Path
) -> None:
    put(server, "file", b"content")
    wrong = fingerprint(make_key(tmp_path / "wrong").with_suffix(".pub"))
    code, output = fetching.text("file", "--fingerprint", wrong)
    assert code == 2
    assert server.fingerprint in output
    assert wrong in output
    assert server.logins() == 0
    assert fetching.versions() == 0


def test_a_wrong_password_is_said_once_and_never_shown(fetching: Fetching, server: FaultySftp) -> None:
    put(server, "file", b"content")
    server.sandbox.password = "another"
    code, output = fetching.text("file")
    assert code == 2
    assert "does not let the user loader in with its password" in output
    assert server.password not in output
    assert server.logins() == 1


# --- what is fetched, and what it is called ---


def test_dates_stand_in_names_and_the_name_on_the_log_is_plain(fetching: Fetching, server: FaultySftp) -> None:
    put(server, "Students/CA_students_20171005.zip", zipped(("x.csv", b"a\n1\n")))
    code, events = fetching.run("./Students/CA_students_%Y%m%d.zip", "--date", "2017-10-05", "--dry-run")
    assert (code, [event["event"] for event in events]) == (0, ["would-fetch"])
    assert fetching.versions() == 0
    code, _ = fetching.run("./Students/CA_students_%Y%m%d.zip", "--date", "2017-10-05")
    assert code == 0
    assert list(fetching.sent()) == [b"Students/CA_students_20171005.zip"]
    code, events = fetching.run("./Students/CA_students_%Y%m%d.zip", "--date", "2017-10-06")
    assert (code, events[0]["code"]) == (1, "remote-missing")


def test_a_new_version_under_the_same_name_is_sent_and_an_old_one_is_not_sent_again(
    fetching: Fetching, server: FaultySftp
) -> None:
    put(server, "file", content(MEGABYTE, 1))
    assert fetching.run("file")[0] == 0
    put(server, "file", content(MEGABYTE, 2), mtime=1_700_000_060)
    assert [event["event"] for event in fetching.run("file")[1]] == ["waiting", "fetched", "sent", "done"]
    assert fetching.sent() == {b"file": content(MEGABYTE, 2)}
    assert [event["event"] for event in fetching.run("file")[1]] == ["unchanged", "done"]
    assert fetching.versions() == 2


def test_one_missing_file_does_not_keep_the_others_back_but_the_exit_code_tells(
    fetching: Fetching, server: FaultySftp
) -> None:
    put(server, "there", b"content")
    put(server, "empty", b"")
    (server.root / "folder").mkdir()
    code, events = fetching.run("gone", "empty", "folder", "there")
    assert code == 1
    told = {
        event["path"]: event.get("code", event["event"]) for event in events if event["event"] in ("failed", "sent")
    }
    assert told == {"gone": "remote-missing", "empty": "remote-empty", "folder": "not-a-file", "there": "sent"}
    assert fetching.sent() == {b"there": b"content"}


def test_again_and_again_until_it_is_stopped(fetching: Fetching, server: FaultySftp, tmp_path: Path) -> None:
    environment = {
        **fetching.environment,
        "HEADRACE_KAFKA__BOOTSTRAP": fetching.cluster.bootstrap,
        "HEADRACE_KAFKA__PREFIX": fetching.cluster.settings.prefix,
    }
    service = Service("fetch", tmp_path, ["fetch", *fetching.options, "file", "--every", "300ms"], environment)
    service.start()
    put(server, "file", b"one")
    wait_until(lambda: fetching.sent().get(b"file") == b"one", within=20)
    put(server, "file", b"two", mtime=1_700_000_060)
    wait_until(lambda: fetching.sent().get(b"file") == b"two", within=20)
    service.stop()


# --- losses, and what was half-way ---


def test_a_connection_that_is_cut_goes_on_where_it_was(fetching: Fetching, server: FaultySftp) -> None:
    data = content(20 * MEGABYTE)
    put(server, "large", data)
    server.behave(cut_at=15 * MEGABYTE, cuts=1)
    code, events = fetching.run("large")
    assert code == 0
    (resumed,) = [event for event in events if event["event"] == "resumed"]
    assert resumed["at"] >= 10 * MEGABYTE
    assert fetching.sent() == {b"large": data}
    assert server.bytes < 1.5 * len(data)
    assert server.sandbox.counters.get("most outstanding reads") <= 16


def test_a_process_that_is_killed_half_way_goes_on_after_what_is_surely_on_disk(
    fetching: Fetching, server: FaultySftp, tmp_path: Path
) -> None:
    data = content(SYNC_EVERY + 20 * MEGABYTE)
    put(server, "large", data)
    halfway = threading.Event()
    server.watch(lambda offset: halfway.set() if SYNC_EVERY + 8 * MEGABYTE < offset < len(data) - MEGABYTE else None)
    environment = {
        **fetching.environment,
        "HEADRACE_KAFKA__BOOTSTRAP": fetching.cluster.bootstrap,
        "HEADRACE_KAFKA__PREFIX": fetching.cluster.settings.prefix,
    }
    service = Service("fetch", tmp_path, ["fetch", *fetching.options, "large"], environment)
    service.start()
    assert halfway.wait(30)
    service.kill()
    assert fetching.versions() == 0
    code, events = fetching.run("large")
    assert code == 0
    (resumed,) = [event for event in events if event["event"] == "resumed"]
    assert SYNC_EVERY <= resumed["at"] < len(data)
    assert fetching.sent() == {b"large": data}


def test_one_that_was_killed_before_it_was_sent_is_sent_without_fetching_it_all_again(
    fetching: Fetching, server: FaultySftp, tmp_path: Path
) -> None:
    data = content(5 * MEGABYTE)
    put(server, "file", data)
    environment = {
        **fetching.environment,
        "HEADRACE_KAFKA__BOOTSTRAP": fetching.cluster.bootstrap,
        "HEADRACE_KAFKA__PREFIX": fetching.cluster.settings.prefix,
    }
    for point in ("sftp_source.after-fetch", "sender.between-frames:10", "sender.after-last-frame-before-announce"):
        service = Service("fetch", tmp_path, ["fetch", *fetching.options, "file"], environment)
        service.start(kill_point=point)
        service.await_point()
        service.kill()
    assert fetching.run("file")[0] == 0
    assert fetching.sent() == {b"file": data}
    assert fetching.versions() == 1
    assert server.bytes < 2 * len(data)


@pytest.mark.parametrize("what", ["content", "size", "time"])
def test_a_file_that_is_replaced_between_two_attempts_is_never_spliced(
    fetching: Fetching, server: FaultySftp, what: str
) -> None:
    old, new = content(8 * MEGABYTE, 1), content(8 * MEGABYTE, 2)
    put(server, "file", old)
    server.behave(cut_at=5 * MEGABYTE, cuts=10)
    assert fetching.run("file")[0] == 1
    assert fetching.leftovers()
    server.behave()
    put(server, "file", new[:-1] if what == "size" else new, mtime=1_700_000_000 + (what == "time"))
    code, events = fetching.run("file")
    assert code == 0
    assert not [event for event in events if event["event"] == "resumed"]
    assert fetching.sent() == {b"file": new[:-1] if what == "size" else new}
    assert fetching.versions() == 1
    assert fetching.leftovers() == []


def test_a_file_that_changes_while_it_is_read_is_fetched_anew(fetching: Fetching, server: FaultySftp) -> None:
    old, new = content(10 * MEGABYTE, 1), content(12 * MEGABYTE, 2)
    put(server, "file", old)

    def replace(offset: int) -> None:
        if 5 * MEGABYTE < offset < 6 * MEGABYTE:
            server.watch(None)
            put(server, "file", new, mtime=1_700_000_500)

    server.watch(replace)
    code, events = fetching.run("file")
    assert code == 0
    assert "remote-changed" in [event.get("code") for event in events]
    assert fetching.sent() == {b"file": new}
    assert fetching.versions() == 1


def test_a_file_that_still_grows_is_waited_for(fetching: Fetching, server: FaultySftp) -> None:
    place = put(server, "file", b"")
    stop = threading.Event()

    def produce() -> None:
        with place.open("ab", buffering=0) as file:
            for step in range(20):
                file.write(content(50_000, step))
                stop.wait(0.05)

    place.write_bytes(b"begin")
    producer = threading.Thread(target=produce)
    producer.start()
    code, _ = fetching.run("file", "--settle", "400ms")
    producer.join()
    assert code == 0
    assert fetching.sent() == {b"file": b"begin" + b"".join(content(50_000, step) for step in range(20))}
    assert fetching.versions() == 1


@pytest.mark.parametrize(
    "planted",
    [content(4 * MEGABYTE, 9), bytes(3 * MEGABYTE), content(3 * MEGABYTE)[:100] + bytes(2 * MEGABYTE)],
    ids=["longer", "other bytes", "a hole of zeros"],
)
def test_what_lies_in_the_folder_already_is_never_taken_for_the_file(
    fetching: Fetching, server: FaultySftp, planted: bytes
) -> None:
    # Rows 4 to 6 and 9 of the reference, 1.6.
    data = content(3 * MEGABYTE)
    put(server, "file", data)
    server.behave(cut_at=2 * MEGABYTE, cuts=99)
    assert fetching.run("file")[0] == 1
    (part,) = (fetching.state / "sftp" / "test").glob("*.part")
    record = part.with_suffix(".json")
    part.write_bytes(planted)
    record.write_text(json.dumps(json.loads(record.read_text()) | {"done": len(planted)}))
    server.behave()
    code, events = fetching.run("file")
    assert code == 0
    assert not [event for event in events if event["event"] == "resumed"]
    assert fetching.sent() == {b"file": data}


# --- servers that are not as they should be ---


@pytest.mark.parametrize(
    "faults",
    [
        {"most_at_once": 7_000},
        {"most_at_once": 100_000, "pause_ms": 1},
        {"most_outstanding": 16},
    ],
    ids=["short reads", "shorter than asked", "few outstanding"],
)
def test_a_server_with_narrow_limits_gives_the_same_bytes(
    fetching: Fetching, server: FaultySftp, faults: dict[str, Any]
) -> None:
    data = content(5 * MEGABYTE)
    put(server, "file", data)
    server.behave(**faults)
    assert fetching.run("file")[0] == 0
    assert fetching.sent() == {b"file": data}


def test_a_size_that_is_larger_than_the_data_is_no_file_with_a_hole(fetching: Fetching, server: FaultySftp) -> None:
    put(server, "file", content(MEGABYTE))
    server.behave(larger_by=1000)
    code, events = fetching.run("file")
    assert code == 1
    assert events[-2]["code"] == "remote-changed"
    assert fetching.versions() == 0
    assert fetching.leftovers() == []


def test_a_server_that_is_not_there_or_always_hangs_up_ends_with_1_after_a_few_tries(
    fetching: Fetching, server: FaultySftp
) -> None:
    put(server, "file", content(MEGABYTE))
    server.behave(cut_at=0, cuts=99)
    code, events = fetching.run("file")
    assert (code, events[-2]["code"], events[-2]["tries"]) == (1, "connection-lost", 2)
    code, output = fetching.text("file", "--port", str(free_port()))
    assert code == 1
    assert "does not answer" in output


# --- what may not be published ---


def test_a15_damaged_files_are_never_published(fetching: Fetching, server: FaultySftp) -> None:
    whole = zipped(("students.csv", b"station,sensor,time,value\n" + content(300_000).hex().encode()))
    wrong_crc = bytearray(whole)
    wrong_crc[100_000] ^= 1
    put(server, "truncated.zip", whole[:200_000])
    put(server, "crc.zip", bytes(wrong_crc))
    put(server, "none.zip", zipped())
    put(server, "header.csv", b"something,else\n1,2\n")
    put(server, "plain.zip", b"station,sensor,time,value\na,b,2026-01-01T00:00:00Z,1\n")
    put(server, "two.zip", zipped(("1", b"station,sensor,time,value\n"), ("2", b"station,sensor,time,value\n")))
    names = ["truncated.zip", "crc.zip", "none.zip", "header.csv", "plain.zip", "two.zip"]
    code, events = fetching.run(*names, "--dataset", "readings")
    assert code == 1
    assert {event["path"]: event["code"] for event in events if event["event"] == "failed"} == {
        "truncated.zip": "damaged-archive",
        "crc.zip": "damaged-archive",
        "none.zip": "unusable-archive",
        "header.csv": "header-mismatch",
    }
    assert set(fetching.sent()) == {b"plain.zip", b"two.zip"}
    assert fetching.versions() == 2
    assert fetching.leftovers() == []
