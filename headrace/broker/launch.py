"""Turns settings into a running Java process: files, format of an empty folder, command line."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headrace.broker.errors import BrokerNotStarted
from headrace.broker.jars import Jars
from headrace.broker.java import Java, options
from headrace.broker.layout import Layout
from headrace.broker.process import MAIN_CLASS, gist
from headrace.broker.properties import AFTER_A_CRASH, log_properties, server_properties, write_properties


@dataclass(frozen=True)
class Launch:
    """How a broker is to be run.

    Parameters:
        layout: its folder.
        java, jars: what runs it.
        heap_mebibytes, fast_start: see `headrace.broker.java.options`.
        log_level: ERROR, WARN, INFO or DEBUG.
        archive: class-data archive to use; None for none.
        extra: Kafka server properties that win over ours.
    """

    layout: Layout
    java: Java
    jars: Jars
    heap_mebibytes: int
    fast_start: bool
    log_level: str
    archive: Path | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    def write_settings(self, port: int, controller_port: int) -> None:
        """Write the files that Kafka and its logger read."""
        layout = self.layout
        layout.log.parent.mkdir(parents=True, exist_ok=True)
        extra = dict(self.extra)
        if layout.data.exists() and not layout.stopped_cleanly:
            extra = {**AFTER_A_CRASH, **extra}
        settings = server_properties(data=layout.data, port=port, controller_port=controller_port, extra=extra)
        write_properties(layout.server_properties, settings)
        write_properties(layout.format_properties, {**settings, "log.dirs": str(layout.unfinished_data)})
        write_properties(layout.log_properties, log_properties(log=layout.log, level=self.log_level))

    def format(self, timeout: float, *, cluster: str | None = None, standalone: bool = True) -> None:
        """Make an empty cluster of one node, or a node of a cluster, out of a folder without data.

        It happens in a folder of its own that is renamed when it is whole: a crash leaves no half of it.

        Parameters:
            timeout: seconds; it takes one or two.
            cluster: its id, if it is given; all nodes of a cluster have the same.
            standalone: false for a node of several, whose voters are among the `extra` properties.

        Raises BrokerNotStarted.

        Source: Apache Kafka 4.3 documentation, KRaft, "Provisioning Nodes"; a cluster id is a UUID in URL-safe base64.
        """
        shutil.rmtree(self.layout.unfinished_data, ignore_errors=True)
        cluster = cluster or base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
        arguments = ["format", f"--cluster-id={cluster}", f"--config={self.layout.format_properties}"]
        if standalone:
            arguments.append("--standalone")
        run = subprocess.run(
            [*self._command(), "kafka.tools.StorageTool", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self._environment(),
            check=False,
        )
        if run.returncode != 0:
            said = gist(run.stdout + run.stderr)
            problem = "could not format its data"
            raise BrokerNotStarted(folder=self.layout.root, problem=problem, log="StorageTool", tail=said)
        self.layout.unfinished_data.rename(self.layout.data)

    def spawn(self, more_options: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start the broker in a session of its own, so that no terminal's Ctrl-C reaches it."""
        with self.layout.console.open("wb") as console:
            return subprocess.Popen(
                [*self._command(), *more_options, MAIN_CLASS, str(self.layout.server_properties)],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                cwd=self.layout.root,
                env=self._environment(),
                start_new_session=True,
            )

    def _command(self) -> list[str]:
        command = [str(self.java.executable)]
        command += options(heap_mebibytes=self.heap_mebibytes, fast_start=self.fast_start)
        command += [f"-Dlog4j2.configurationFile={self.layout.log_properties}"]
        if self.archive is not None:
            command += [f"-XX:SharedArchiveFile={self.archive}"]
        return command

    def _environment(self) -> dict[str, str]:
        # Our own variables may hold secrets, and Kafka has no use for them. The class path would fill a screen of `ps`.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        return {**inherited, "CLASSPATH": self.jars.classpath}
