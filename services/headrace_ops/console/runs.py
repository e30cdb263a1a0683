"""Commands that the console runs for those who press a button, each in a process of its own.

What one says goes to files, not through pipes: when the console is killed, a load goes on to its end. The folder is
this process's own, and goes with it, since reports in it may hold personal data.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from headrace.errors import ConfigError, TransientError
from headrace_ops.console.output import Growing, Output

MOST_RUNNING = 4
MOST_REMEMBERED = 20
CLOSE_SECONDS = 20.0
LOCK = "lock"

log = structlog.get_logger(__name__)


class TooManyRuns(TransientError):
    """{count} commands run already, as many as the console runs at once. Wait for one, or stop one."""

    code = "too-many-runs"
    default_retry_after = 5.0


class NoFolderForRuns(ConfigError):
    """Commands cannot be run from here: the folder {folder} cannot be used ({problem}). Mend that, start it again."""

    code = "no-folder-for-runs"


@dataclass
class Run:
    """One command.

    Parameters:
        name: its place in addresses.
        title: for people.
        words: the command line, without the program.
        job: its job, if it has one; `begins_job`: not one that it only reports on.
        caution: what must be known of its files.
        began: seconds since the epoch.
    """

    name: str
    title: str
    words: tuple[str, ...]
    job: str | None
    begins_job: bool
    caution: str
    began: float
    folder: Path
    process: subprocess.Popen[bytes]
    output: Output = field(default_factory=Output)
    told_to_stop: bool = False

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._said, self._logged = Growing(self.folder / "said"), Growing(self.folder / "log")

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.process.poll()

    def without_folder(self, text: str) -> str:
        """A text in which the long name of the folder for its files is left out."""
        return text.replace(f"{self.files_folder}/", "").replace(str(self.files_folder), "…")

    @property
    def files_folder(self) -> Path:
        """Where it writes what is offered for download."""
        return self.folder / "files"

    def look(self) -> Output:
        """What it has said until now."""
        ended = self.exit_code is not None
        with self._lock:
            for line in self._said.lines(whole=ended):
                self.output.take(line)
            for line in self._logged.lines(whole=ended):
                self.output.take_log(line)
        return self.output

    def files(self) -> list[tuple[str, int]]:
        """Names and sizes in bytes of what it wrote."""
        if self.exit_code is None or not self.files_folder.is_dir():
            return []
        return [(each.name, each.stat().st_size) for each in sorted(self.files_folder.iterdir()) if each.is_file()]

    def forget(self) -> None:
        """Remove what it wrote."""
        self._said.close()
        self._logged.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Runs:
    """The commands of one console.

    Parameters:
        folder: for this and other consoles of the machine.
        program: words before those of a command, such as where the settings are.
        environment: of the processes.
    """

    def __init__(self, folder: Path, program: Sequence[str], environment: Mapping[str, str]) -> None:
        self._program, self._environment = list(program), dict(environment)
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._folder = folder / f"{os.getpid()}-{secrets.token_hex(4)}"
        self._held: int | None = None
        self._problem = ""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sweep(folder)
            self._folder.mkdir(mode=0o700)
            self._held = _lock(self._folder / LOCK)
        except OSError as error:
            # Everything else of the console does without.
            self._problem = error.strerror or str(error)
            log.warning("no commands can be run from pages", folder=str(folder), problem=self._problem)

    def start(
        self,
        title: str,
        words: Callable[[Path], Sequence[str]],
        *,
        job: str | None = None,
        begins_job: bool = False,
        caution: str = "",
    ) -> Run:
        """Start a command, or find the same one if it runs already.

        Parameters:
            words: the command, told of the folder for its files.

        Raises TooManyRuns, NoFolderForRuns.
        """
        if self._held is None:
            raise NoFolderForRuns(folder=self._folder.parent, problem=self._problem)
        with self._lock:
            running = [run for run in self._runs.values() if run.exit_code is None]
            for run in running:
                if tuple(words(run.files_folder)) == run.words:
                    return run
            if len(running) >= MOST_RUNNING:
                raise TooManyRuns(count=len(running))
            name = secrets.token_hex(8)
            folder = self._folder / name
            (folder / "files").mkdir(mode=0o700, parents=True)
            command = tuple(words(folder / "files"))
            with (folder / "said").open("ab") as said, (folder / "log").open("ab") as logged:
                # Ctrl-C on the console's terminal is not meant for it.
                process = subprocess.Popen(
                    [*self._program, *command], stdin=subprocess.DEVNULL, stdout=said, stderr=logged,
                    start_new_session=True, env=self._environment,
                )  # fmt: skip
            run = self._runs[name] = Run(name, title, command, job, begins_job, caution, time.time(), folder, process)
            log.info("a command was started from a page", title=title, job=job, run=name)
            self._forget_oldest()
            return run

    def get(self, name: str) -> Run | None:
        """One by its name."""
        with self._lock:
            return self._runs.get(name)

    def newest(self) -> list[Run]:
        """Those that are remembered, the newest first."""
        with self._lock:
            return list(reversed(self._runs.values()))

    def stop(self, run: Run) -> None:
        """Tell it to stop, once: a second signal would end it at once, and leave its job to nobody."""
        with self._lock:
            if run.exit_code is None and not run.told_to_stop:
                run.told_to_stop = True
                run.process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """End everything: jobs are left as with SIGTERM, to be gone on with."""
        with self._lock:
            running = [run for run in self._runs.values() if run.exit_code is None]
            for run in running:
                run.process.terminate()
            deadline = time.monotonic() + CLOSE_SECONDS
            for run in running:
                try:
                    run.process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    run.process.kill()
                    run.process.wait()
            if self._held is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                os.close(self._held)

    def _forget_oldest(self) -> None:
        ended = [run for run in self._runs.values() if run.exit_code is not None]
        for run in ended[: max(0, len(self._runs) - MOST_REMEMBERED)]:
            del self._runs[run.name]
            run.forget()


def program(arguments: Sequence[str]) -> list[str]:
    """The command line of this installation, with these options before the command."""
    return [sys.executable, "-m", "headrace", *arguments]


def _lock(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle


def _sweep(folder: Path) -> None:
    """Remove what consoles have left that were killed; the kernel let go of their locks."""
    for left in folder.iterdir():
        try:
            os.close(_lock(left / LOCK))
        except OSError:
            continue
        shutil.rmtree(left, ignore_errors=True)
