"""Which process is our broker: a record on disk, checked against what really runs under that number."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

MAIN_CLASS = "kafka.Kafka"


@dataclass(frozen=True)
class Record:
    """What the process that started the broker wrote down.

    Parameters:
        pid: number of the Java process.
        port: its TCP port on 127.0.0.1.
    """

    pid: int
    port: int

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """Return the record, or None if there is none or it was torn by a crash."""
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            return cls(int(fields["pid"]), int(fields["port"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Replace the record in one step."""
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(asdict(self)), encoding="utf-8")
        unfinished.replace(path)


def find(pid: int, properties: Path) -> psutil.Process | None:
    """Return the live process `pid` if it is the broker that was started with this properties file.

    Numbers are used again, and after a restart of the machine soon: only the command line tells whose it is.
    """
    try:
        process = psutil.Process(pid)
        command = process.cmdline()
    except psutil.Error:
        return None
    return process if is_broker(command, properties) else None


def gist(said: str, size: int = 600) -> str:
    """The end of what a Java program said, without the indented lines: stack frames and lists of settings."""
    lines = [line for line in said.splitlines() if line.strip() and not line[0].isspace()]
    return "\n".join(lines)[-size:]


def ended(process: psutil.Process) -> bool:
    """Tell whether nothing is left of a process but an entry that its parent has not read.

    Its command line vanishes earlier, and so does its first thread: sockets and locks are held until the last has gone.
    """
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1)
    except psutil.NoSuchProcess:
        return True


def is_broker(command: list[str], properties: Path) -> bool:
    """Tell whether a command line is that of a broker with this properties file."""
    return len(command) > 2 and command[-2:] == [MAIN_CLASS, str(properties)]


def holder(port: int) -> psutil.Process | None:
    """Return the process that listens on this TCP port, if this user may know it."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        connections = []
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            try:
                return psutil.Process(connection.pid)
            except psutil.Error:
                return None
    return None


def described(process: psutil.Process | None) -> str:
    """Name a process for a message to the user: name and number, not its arguments, which may hold secrets."""
    if process is None:
        return f"a process that user {os.getuid()} may not see"
    try:
        return f"{process.name()} (process {process.pid})"
    except psutil.Error:
        return f"process {process.pid}, which has just ended"
