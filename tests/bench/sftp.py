"""Fetching over SFTP against OpenSSH's own client: 500 MB over loopback, with the same cipher, from OpenSSH's server.

Wanted: at least 0.4 of its rate, the median of five pairs. Run: python -m tests.bench.sftp
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from headrace.broker import free_port
from headrace_files.sandbox.sftp.openssh import find_sshd
from headrace_files.sftp_source.connecting import connected
from headrace_files.sftp_source.fetching import Fetch
from headrace_files.sftp_source.settings import CIPHERS, SftpSourceSettings
from tests.bench.common import compare, conditions
from tests.support.sftp import OpenSsh, make_key

SIZE = 500_000_000
MEGABYTE = 1_000_000
WANTED = 0.4


def main() -> int:
    """Compare, and tell whether what was wanted is reached."""
    if find_sshd() is None:
        print("OpenSSH's server is not on this machine; nothing was measured")
        return 0
    conditions()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as place:
        folder = Path(place)
        server = OpenSsh(folder / "sshd", free_port())
        try:
            return 0 if _compare(folder, server) else 1
        finally:
            server.stop()


def _compare(folder: Path, server: OpenSsh) -> bool:
    key = make_key(folder / "key")
    server.allow(key)
    file = folder / "file.bin"
    with file.open("wb") as out, Path("/dev/urandom").open("rb") as random:
        for _ in range(SIZE // (10 * MEGABYTE)):
            out.write(random.read(10 * MEGABYTE))
    settings = SftpSourceSettings(
        host="127.0.0.1", port=server.port, user=server.user, key_file=key,
        fingerprint=server.fingerprint, paths=[str(file)],
    )  # fmt: skip

    def ours(run: int) -> float:
        place = folder / f"ours-{run}"
        place.mkdir()
        began = time.perf_counter()
        with connected(settings) as reader:
            fetch = Fetch(place, "bench", str(file), settings.outstanding, lambda _done, _total: None)
            fetch.run(reader, fetch.look(reader))
        seconds = time.perf_counter() - began
        fetch.forget()
        return seconds

    def plain(run: int) -> float:
        began = time.perf_counter()
        subprocess.run(
            ["sftp", "-q", "-P", str(server.port), "-i", str(key), "-o", f"Ciphers={CIPHERS[0]}",
             "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
             f"{server.user}@127.0.0.1:{file}", str(folder / "plain")],
            check=True, capture_output=True,
        )  # fmt: skip
        return time.perf_counter() - began

    name = f"{SIZE // MEGABYTE} MB by SFTP, {CIPHERS[0]}, against OpenSSH's sftp"
    return compare(name, ours, plain, wanted=WANTED, amount=SIZE / MEGABYTE, unit="MB/s").show()


if __name__ == "__main__":
    sys.exit(main())
