"""A single-node Apache Kafka in the background of this machine, with its data in one folder."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from headrace.broker import probe, process
from headrace.broker.archive import ensure_archive
from headrace.broker.errors import BrokerNotStarted, DiskTooFull, PortTaken
from headrace.broker.jars import ensure_jars
from headrace.broker.java import find_java
from headrace.broker.launch import Launch
from headrace.broker.layout import Layout
from headrace.broker.process import Record
from headrace.resources import locked, state_folder

DEFAULT_PORT = 19092
_POLL = 0.05  # seconds between two looks at a starting broker
_POLL_END = 0.02  # seconds between two looks at a stopping one
_PORT_PATIENCE = 3.0  # seconds
_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Status:
    """What is known of a broker.

    Parameters:
        answering: it serves requests.
        pid, port: of the running process, None if there is none.
        resident_bytes: its memory, None if it does not run.
        data_bytes: size of its log on disk.
        free_bytes: room left on that disk.
    """

    answering: bool
    pid: int | None
    port: int | None
    resident_bytes: int | None
    data_bytes: int
    free_bytes: int

    @property
    def running(self) -> bool:
        """Its process is alive, if perhaps still recovering its log."""
        return self.pid is not None


class EmbeddedBroker:
    """Starts, watches and stops a Kafka broker that outlives the process that started it.

    Several processes may hold one of these on the same folder and start it at once: one starts it, all can use it.

    Parameters:
        data_dir: everything of this broker: settings, logs, and the topics' data, which is kept between runs.
            Default: `broker` in the user's state folder.
        port: TCP port on 127.0.0.1. A broker that already runs on `data_dir` keeps the port it has.
        heap_mebibytes: largest Java heap in MiB.
        fast_start: trade speed for an earlier first answer; for tests and demonstrations, not for benchmarks.
        log_level: of the broker's own log: ERROR, WARN, INFO or DEBUG.
        extra: Kafka server properties that win over ours, see `server_properties`.
        start_timeout: seconds until a start is given up. Recovery after a kill took 12 s with 1.4 GB of log.
        stop_timeout: seconds for an orderly stop before the process is killed, which loses nothing but time.
        least_free_mebibytes: room in MiB on the disk below which it does not start.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        port: int = DEFAULT_PORT,
        *,
        heap_mebibytes: int = 256,
        fast_start: bool = False,
        log_level: str = "INFO",
        extra: Mapping[str, str] | None = None,
        start_timeout: float = 120.0,
        stop_timeout: float = 20.0,
        least_free_mebibytes: int = 256,
    ) -> None:
        self.layout = Layout((data_dir or state_folder() / "broker").absolute())
        self._wanted_port = port
        self._heap_mebibytes = heap_mebibytes
        self._fast_start = fast_start
        self._log_level = log_level
        self._extra = dict(extra or {})
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._least_free_mebibytes = least_free_mebibytes
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """TCP port on 127.0.0.1: of the running broker, else the one it will be started with."""
        record = Record.read(self.layout.record)
        return record.port if record and self._find(record.pid) else self._wanted_port

    @property
    def bootstrap(self) -> str:
        """Value for a client's `bootstrap.servers`."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Number of the running process, None if there is none."""
        running = self._running()
        return running.pid if running else None

    def start(self) -> None:
        """Start the broker unless it runs, and return when it answers.

        Raises JavaMissing, MavenMissing, JarsNotFetched, PortTaken, DiskTooFull, or BrokerNotStarted.
        """
        with locked(self.layout.lock):
            if self._running() is None:
                self._launch()
            self._await_answer()

    def stop(self) -> bool:
        """End the broker in good order, by force after `stop_timeout`; return whether there was one to end."""
        with locked(self.layout.lock):
            return self._end(self._stop_timeout)

    def kill(self) -> bool:
        """End the broker as a crash would, with SIGKILL; return whether there was one to end."""
        with locked(self.layout.lock):
            return self._end(0.0)

    def reset(self) -> None:
        """Stop the broker and remove all its topics; the next start begins with an empty cluster."""
        with locked(self.layout.lock):
            self._end(self._stop_timeout)
            for folder in (self.layout.data, self.layout.log.parent):
                if folder.exists():
                    shutil.rmtree(folder)

    def status(self) -> Status:
        """Look at the broker without changing anything."""
        running = self._running()
        resident = None
        if running is not None:
            try:
                resident = running.memory_info().rss
            except psutil.Error:
                running = None  # ended a moment ago
        port = self.port if running else None
        return Status(
            answering=port is not None and probe.answers(port),
            pid=running.pid if running else None,
            port=port,
            resident_bytes=resident,
            data_bytes=_size(self.layout.data),
            free_bytes=shutil.disk_usage(_nearest(self.layout.root)).free,
        )

    def _running(self) -> psutil.Process | None:
        if self._child is not None and self._child.poll() is not None:
            self._child = None
        record = Record.read(self.layout.record)
        if record is not None and self._child is not None and record.pid == self._child.pid:
            # Seen once under load: the command line of a living child reads as empty for a moment.
            return psutil.Process(record.pid)
        return self._find(record.pid) if record else None

    def _find(self, pid: int) -> psutil.Process | None:
        return process.find(pid, self.layout.server_properties)

    def _launch(self) -> None:
        if not self._wait_for_port():
            return
        self._check_room()
        java = find_java()
        jars = ensure_jars()
        archive = ensure_archive(java, jars, heap_mebibytes=self._heap_mebibytes, fast_start=self._fast_start)
        launch = Launch(
            layout=self.layout,
            java=java,
            jars=jars,
            heap_mebibytes=self._heap_mebibytes,
            fast_start=self._fast_start,
            log_level=self._log_level,
            archive=archive,
            extra=self._extra,
        )
        launch.write_settings(self._wanted_port, probe.free_port())
        if not self.layout.data.exists():
            launch.format(self._start_timeout)
        self._child = launch.spawn()
        Record(self._child.pid, self._wanted_port).write(self.layout.record)

    def _wait_for_port(self) -> bool:
        """Return whether the port is free; if it is our own broker's, whose record was lost, write that again."""
        deadline = time.monotonic() + _PORT_PATIENCE
        while not probe.is_free(self._wanted_port):
            owner = process.holder(self._wanted_port)
            if owner is not None and self._find(owner.pid) is not None:
                Record(owner.pid, self._wanted_port).write(self.layout.record)
                return False
            # A process that has just been killed holds its sockets for a moment and is seen no more.
            if owner is not None or time.monotonic() > deadline:
                raise PortTaken(port=self._wanted_port, holder=process.described(owner))
            time.sleep(_POLL_END)
        return True

    def _check_room(self) -> None:
        free = shutil.disk_usage(self.layout.root).free // _MEBIBYTE
        if free < self._least_free_mebibytes:
            needed = self._least_free_mebibytes
            raise DiskTooFull(folder=self.layout.root, free_mebibytes=free, needed_mebibytes=needed)

    def _await_answer(self) -> None:
        port = self.port
        deadline = time.monotonic() + self._start_timeout
        while not probe.answers(port):
            child = self._child
            if self._running() is None:
                self.layout.record.unlink(missing_ok=True)
                code = child.poll() if child is not None else None
                raise self._not_started("ended before it answered" + (f" (exit code {code})" if code else ""))
            if time.monotonic() > deadline:
                self._end(0.0)
                raise self._not_started(f"did not answer within {self._start_timeout:.0f} s and was ended")
            time.sleep(_POLL)

    def _not_started(self, problem: str) -> BrokerNotStarted:
        # The virtual machine's own words come first: they are there only if it did not get as far as Kafka.
        console = _tail(self.layout.console)
        log, tail = (self.layout.console, console) if console else (self.layout.log, _tail(self.layout.log))
        return BrokerNotStarted(folder=self.layout.root, problem=problem, log=log, tail=tail)

    def _end(self, patience: float) -> bool:
        running = self._running()
        if running is not None:
            if patience > 0:
                self._signal(running, signal.SIGTERM)
                self._await_end(running, patience)
            self._signal(running, signal.SIGKILL)
            self._await_end(running, None)
        self.layout.record.unlink(missing_ok=True)
        return running is not None

    def _signal(self, running: psutil.Process, number: signal.Signals) -> None:
        try:
            running.send_signal(number)
        except psutil.NoSuchProcess:
            pass

    def _await_end(self, running: psutil.Process, patience: float | None) -> None:
        # Not psutil's wait: if another process started the broker and has not reaped it, the number stays.
        deadline = None if patience is None else time.monotonic() + patience
        while not process.ended(running) and (deadline is None or time.monotonic() < deadline):
            time.sleep(_POLL_END)
        if self._child is not None and self._child.poll() is not None:
            self._child = None


def _size(folder: Path) -> int:
    # Blocks, not lengths: Kafka's index files are 10 MB long and nearly all hole.
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.lstat().st_blocks * 512
        except FileNotFoundError:
            continue  # a segment that was deleted meanwhile
    return total


def _nearest(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _tail(log: Path) -> str:
    try:
        return process.gist(log.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return ""
