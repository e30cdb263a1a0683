"""What a user of `headrace sandbox sftp` would miss: a server to log in at, and each damage that is asked for."""

from __future__ import annotations

import http.client
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from headrace.errors import ConfigError, PermanentError, TransientError
from headrace_files.sandbox.sftp.openssh import find_sshd
from headrace_files.sftp_source.connecting import connected
from headrace_files.sftp_source.errors import HostKeyRefused, RemoteMissing
from headrace_files.sftp_source.settings import SftpSourceSettings
from tests.support.waiting import wait_until

CSV = b"a^b\n" + b"".join(b"%d^x\n" % number for number in range(20_000))
NAME = "Students/CA_students_20171005.zip"


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("students.csv", data)
    return out.getvalue()


@contextmanager
def sandbox(root: Path, keys: Path, *options: str) -> Iterator[dict[str, Any]]:
    """The command as users run it; what it printed."""
    command = [sys.executable, "-m", "headrace", "sandbox", "sftp", str(root), "--port", "0", "--keys", str(keys)]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"it ended with {process.wait()}"
        yield json.loads(line)
    finally:
        process.terminate()
        assert process.wait(20) == 0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "a folder" / NAME
    place.parent.mkdir(parents=True)
    place.write_bytes(zipped(CSV))
    return tmp_path / "a folder"


def settings(told: dict[str, Any], **changes: Any) -> SftpSourceSettings:
    values = {
        "host": told["host"], "port": told["port"], "user": told["user"], "key_file": told["key_file"],
        "fingerprint": told["fingerprint"], "paths": [NAME], **changes,
    }  # fmt: skip
    return SftpSourceSettings(**values)


def read(told: dict[str, Any], **changes: Any) -> bytes:
    """All of the file, in pieces of 32 KiB, as the server gives it."""
    with connected(settings(told, **changes)) as reader:
        size = reader.stat(NAME).size
        handle = reader.open(NAME)
        return b"".join(reader.read(handle, at, min(32768, size - at), NAME) for at in range(0, size, 32768))


def control(told: dict[str, Any], path: str, body: Any = None, method: str | None = None) -> Any:
    """What it answers; raises what it refuses."""
    with closing(http.client.HTTPConnection("127.0.0.1", int(told["control_url"].rsplit(":")[-1]), timeout=10)) as link:
        link.request(method or ("GET" if body is None else "POST"), f"/{path}", json.dumps(body))
        answer = link.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise ValueError(text)
        return [json.loads(line) for line in text.splitlines()] if path.startswith("tables/") else json.loads(text)


@pytest.mark.parametrize("server", ["openssh", "asyncssh"])
def test_both_servers_let_the_printed_key_in_and_are_the_same_when_started_again(
    root: Path, tmp_path: Path, server: str
) -> None:
    if server == "openssh" and find_sshd() is None:
        pytest.skip("OpenSSH's server is not on this machine: apt-get install openssh-server")
    with sandbox(root, tmp_path / "keys", "--server", server) as told:
        assert told["server"] == server
        assert read(told) == (root / NAME).read_bytes()
        first = told["fingerprint"]
    with sandbox(root, tmp_path / "keys", "--server", server) as told:
        assert told["fingerprint"] == first


def test_the_password_is_in_a_file_of_its_owner_and_opens_too(root: Path, tmp_path: Path) -> None:
    with sandbox(root, tmp_path / "keys", "--server", "asyncssh") as told:
        file = Path(told["password_file"])
        assert file.stat().st_mode & 0o077 == 0
        password = file.read_text().strip()
        assert password not in json.dumps(told)
        assert read(told, key_file=None, password=SecretStr(password)) == (root / NAME).read_bytes()
        with pytest.raises(ConfigError, match="does not let the user"):
            read(told, key_file=None, password=SecretStr("another"))


def test_nothing_can_be_written(root: Path, tmp_path: Path) -> None:
    good = (root / NAME).read_bytes()
    for server in ("openssh", "asyncssh") if find_sshd() is not None else ("asyncssh",):
        with sandbox(root, tmp_path / "keys", "--server", server) as told:
            script = f"put {tmp_path}/keys/host_key_1.pub {NAME}\nrm {NAME}\nmkdir new\n"
            subprocess.run(
                ["sftp", "-q", "-P", str(told["port"]), "-i", told["key_file"], "-o", "StrictHostKeyChecking=no",
                 "-o", "UserKnownHostsFile=/dev/null", "-b", "-", f"{told['user']}@127.0.0.1"],
                input="".join(f"-{line}\n" for line in script.splitlines()), text=True, check=False,
                capture_output=True,
            )  # fmt: skip
            assert (root / NAME).read_bytes() == good
            assert sorted(place.name for place in root.iterdir()) == ["Students"]


def test_files_are_shown_spoiled_and_healed_and_the_good_ones_stay_as_they_are(root: Path, tmp_path: Path) -> None:
    good = (root / NAME).read_bytes()
    with sandbox(root, tmp_path / "keys", "--control-port", "0") as told:
        seen = {}
        for how in ("empty", "truncated", "crc", "replaced", "two-members", "plain"):
            control(told, "spoil", {"path": NAME, "how": how})
            seen[how] = read(told)
        assert seen["empty"] == b""
        assert seen["truncated"] == good[: len(good) // 2]
        assert sum(ours != theirs for ours, theirs in zip(seen["crc"], good, strict=True)) == 1
        with zipfile.ZipFile(io.BytesIO(seen["crc"])) as archive:
            assert archive.testzip() == "students.csv"
        assert len(seen["replaced"]) == len(good)
        assert seen["replaced"][:100] != good[:100]
        with zipfile.ZipFile(io.BytesIO(seen["two-members"])) as archive:
            assert [archive.read(name) for name in archive.namelist()] == [CSV, CSV]
        assert seen["plain"] == CSV
        control(told, "spoil", {"path": f"./{NAME}", "how": "missing"})
        with pytest.raises(RemoteMissing):
            read(told)
        control(told, "spoil", {"path": NAME, "how": "growing", "seconds": 0.5})
        assert len(read(told)) < len(good)
        wait_until(lambda: read(told) == good, within=10)
        control(told, "spoil", {"path": NAME, "how": "empty"})
        assert control(told, "counters")["spoiled"] == [f"/{NAME}"]
        control(told, "heal", {})
        assert read(told) == good == (root / NAME).read_bytes()
        with pytest.raises(ValueError, match="there is no file"):
            control(told, "spoil", {"path": "../keys/password", "how": "plain"})


def test_the_server_misbehaves_as_it_is_told(root: Path, tmp_path: Path) -> None:
    good = (root / NAME).read_bytes()
    plan = tmp_path / "plan.toml"
    plan.write_text('larger_by = 7\n[[faults]]\nendpoint = "open"\naction = "status"\ntimes = 1\n')
    with sandbox(root, tmp_path / "keys", "--file", str(plan)) as told:
        with connected(settings(told)) as reader:
            assert reader.stat(NAME).size == len(good) + 7
        with pytest.raises((PermanentError, TransientError)):
            read(told)
        control(told, "reset", {})
        assert read(told) == good
        control(told, "configure", {"host_key": 2})
        with pytest.raises(HostKeyRefused):
            read(told)
        assert read(told, fingerprint=told["wrong_fingerprint"]) == good
        control(told, "configure", {"host_key": 1, "sequential": True})
        assert read(told) == good
        with connected(settings(told)) as reader, pytest.raises(PermanentError):
            reader.read(reader.open(NAME), 1000, 10, NAME)
        control(told, "configure", {"sequential": False, "cut_at": 50_000, "cuts": 1})
        with pytest.raises(TransientError):
            read(told)
        assert read(told) == good
        rule = {"endpoint": "login", "action": "drop_before"}
        control(told, "faults", [rule], "PUT")
        password = SecretStr(Path(told["password_file"]).read_text().strip())
        with pytest.raises(TransientError):
            read(told, key_file=None, password=password)
        assert [row["path"] for row in control(told, "tables/files")] == [NAME]
        counters = control(told, "counters")
        assert counters["faults"]["drop_before"]["login"] == 1


def test_openssh_with_a_fault_is_a_wrong_call(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "headrace", "sandbox", "sftp", str(root), "--server", "openssh", "--set", "cuts=2"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "OpenSSH has no faults" in ran.stderr
