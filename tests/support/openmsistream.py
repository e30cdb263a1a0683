"""The real OpenMSIStream from PyPI, in an environment of its own: a program to talk to, never a dependency.

It is installed once under the user's cache. It has the GPL 3 as its licence, so nothing of it is imported or copied.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.resources import cache_folder, locked

VERSION = "1.8.8"
INSTALL_SECONDS = 280


class NotInstalled(Exception):
    """It cannot be had here; the message says why."""


def ensure_openmsistream() -> Path:
    """The folder of its programs. Raises NotInstalled."""
    home = cache_folder() / "openmsistream" / f"{VERSION}-{sys.version_info.major}.{sys.version_info.minor}"
    done = home / "installed"
    with locked(home.parent / "install.lock"):
        if not done.exists():
            venv.create(home, with_pip=True, clear=True)
            command = [home / "bin/pip", "install", "--quiet", f"openmsistream=={VERSION}"]
            try:
                run = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
            except subprocess.TimeoutExpired as error:
                raise NotInstalled(f"pip took longer than {INSTALL_SECONDS} s; the next run goes on with it") from error
            if run.returncode != 0:
                raise NotInstalled(f"pip cannot install it: {(run.stderr.strip().splitlines() or ['no reason'])[-1]}")
            done.touch()
    return home / "bin"


def write_config(folder: Path, bootstrap: str) -> Path:
    """A configuration file for one broker, with the serializers that its own files name."""
    path = folder / "openmsi.config"
    path.write_text(
        f"""[broker]
bootstrap.servers = {bootstrap}

[producer]
batch.size = 200000
linger.ms = 10
compression.type = lz4
key.serializer = StringSerializer
value.serializer = DataFileChunkSerializer

[consumer]
group.id = create_new
auto.offset.reset = earliest
enable.auto.commit = False
fetch.min.bytes = 1
key.deserializer = StringDeserializer
value.deserializer = DataFileChunkDeserializer
""",
        "utf-8",
    )
    return path


class Program:
    """One of its programs in a process; what it prints is in `output`."""

    def __init__(self, bin_folder: Path, name: str, folder: Path, arguments: list[str | Path]) -> None:
        self._path = folder / f"{name}.log"
        self._log = self._path.open("wb")
        self.process = subprocess.Popen(
            [bin_folder / name, *arguments], cwd=folder, stdin=subprocess.PIPE, stdout=self._log, stderr=self._log,
            env={name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")},
        )  # fmt: skip

    @property
    def output(self) -> str:
        return self._path.read_text("utf-8", "replace")

    def quit(self, within: float = 60) -> int:
        """Ask it to end, as a person would."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"quit\n")
        self.process.stdin.flush()
        return self.process.wait(within)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self._log.close()


@contextmanager
def program(bin_folder: Path, name: str, folder: Path, *arguments: str | Path) -> Iterator[Program]:
    """A program that is ended with the block."""
    folder.mkdir(exist_ok=True)
    running = Program(bin_folder, name, folder, list(arguments))
    try:
        yield running
    finally:
        running.close()
