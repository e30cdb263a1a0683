"""Class-data archives: Kafka's 6,000 classes parsed once, mapped into memory at every later start.

They bring the first answer from 4.0 s to 2.5 s. Java writes one when a process ends in good order, so a broker is
started once on a folder that is thrown away.

Source: JEP 350, dynamic class-data archives.
"""

from __future__ import annotations

import logging
import subprocess
import tempfile
import time
from pathlib import Path

from headrace.broker import probe
from headrace.broker.errors import BrokerNotStarted
from headrace.broker.jars import Jars
from headrace.broker.java import Java
from headrace.broker.launch import Launch
from headrace.broker.layout import Layout
from headrace.broker.process import gist
from headrace.resources import locked

_LOG = logging.getLogger(__name__)
_LONGEST = 120.0  # seconds for each step of the training run


def ensure_archive(java: Java, jars: Jars, *, heap_mebibytes: int, fast_start: bool) -> Path | None:
    """Return the archive for this Java and these options, writing it if there is none; it takes ten seconds.

    Returns None if it cannot be written, which is tried once: a broker without it is otherwise the same.
    """
    archive = archive_path(java, jars, fast_start=fast_start)
    # Not every Java can write one, and ten seconds at each start would be a poor price for an attempt to save two.
    refused = archive.with_suffix(".refused")
    if not archive.exists() and not refused.exists():
        with locked(archive.with_suffix(".lock")):
            if not archive.exists() and not refused.exists():
                try:
                    _train(java, jars, archive, heap_mebibytes=heap_mebibytes, fast_start=fast_start)
                except (OSError, subprocess.SubprocessError, BrokerNotStarted) as error:
                    _LOG.warning("no class-data archive for the embedded broker, it will start slowly: %s", error)
                    refused.touch()
    return archive if archive.exists() else None


def archive_path(java: Java, jars: Jars, *, fast_start: bool) -> Path:
    """Path of the archive for this Java and these options, there or not."""
    # The collector decides the layout of objects, so each mode has its own.
    return jars.folder / f"{'fast' if fast_start else 'normal'}-{java.fingerprint}.jsa"


def _train(java: Java, jars: Jars, archive: Path, *, heap_mebibytes: int, fast_start: bool) -> None:
    with tempfile.TemporaryDirectory(dir=jars.folder.parent, prefix="training-") as folder:
        layout = Layout(Path(folder))
        launch = Launch(layout, java, jars, heap_mebibytes, fast_start, log_level="INFO")
        port = probe.free_port()
        launch.write_settings(port, probe.free_port())
        launch.format(_LONGEST)
        unfinished = layout.root / "unfinished.jsa"
        child = launch.spawn([f"-XX:ArchiveClassesAtExit={unfinished}"])
        try:
            deadline = time.monotonic() + _LONGEST
            while not probe.answers(port):
                if child.poll() is not None or time.monotonic() > deadline:
                    raise BrokerNotStarted(
                        folder=layout.root,
                        problem="did not answer in its training run",
                        log=layout.console,
                        tail=gist(layout.console.read_text(encoding="utf-8", errors="replace")),
                    )
                time.sleep(0.1)
            child.terminate()
            child.wait(_LONGEST)
        finally:
            child.kill()
            child.wait()
        unfinished.rename(archive)
