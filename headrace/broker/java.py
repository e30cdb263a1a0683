"""The Java that runs the embedded broker, and the options it is started with."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from headrace.broker.errors import JavaMissing

OLDEST_JAVA = 17  # Apache Kafka 4 broker, KIP-1013


@dataclass(frozen=True)
class Java:
    """A Java found on this machine.

    Parameters:
        executable: the `java` launcher.
        version: full version text, part of the name of class-data archives, which fit one build of Java only.
    """

    executable: Path
    version: str

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that change with the build or the place of this Java."""
        return hashlib.sha256(f"{self.executable}\n{self.version}".encode()).hexdigest()[:8]


def find_java() -> Java:
    """Find Java by JAVA_HOME, then PATH.

    Raises JavaMissing if there is none, or only one that is too old.
    """
    home = os.environ.get("JAVA_HOME")
    launcher = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    if launcher is None:
        raise JavaMissing(needed=OLDEST_JAVA, found=f"there is none in JAVA_HOME={home}" if home else "none is on PATH")
    executable = Path(launcher).resolve()
    version = _version(executable)
    if _major(version) < OLDEST_JAVA:
        raise JavaMissing(needed=OLDEST_JAVA, found=f"{launcher} is version {version}")
    return Java(executable, version)


def _version(executable: Path) -> str:
    # A file read instead of a run of `java -version`, which would take 0.1 s of every start.
    release = executable.parent.parent / "release"
    if release.is_file():
        text = release.read_text(encoding="utf-8", errors="replace")
        fields = dict(re.findall(r'^(\w+)="(.*)"$', text, re.MULTILINE))
        if "JAVA_VERSION" in fields:
            return f"{fields['JAVA_VERSION']} {fields.get('JAVA_RUNTIME_VERSION', '')}".strip()
    shown = subprocess.run([executable, "-version"], capture_output=True, text=True, timeout=30, check=False)
    quoted = re.search(r'version "([^"]+)"', shown.stderr)
    return quoted.group(1) if quoted else f"unknown ({shown.stderr[:60]!r})"


def _major(version: str) -> int:
    """Feature release of a version text; 1.8.0 is 8 (JEP 223)."""
    numbers = re.match(r"(?:1\.)?(\d+)", version)
    return int(numbers.group(1)) if numbers else 0


def options(*, heap_mebibytes: int, fast_start: bool) -> list[str]:
    """Options of the Java virtual machine.

    Parameters:
        heap_mebibytes: largest heap in MiB; the process takes 150 to 200 MiB more.
        fast_start: serial collector and first compiler only: up in half the time, slower afterwards.
    """
    chosen = [
        f"-Xmx{heap_mebibytes}m",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        "-XX:-UsePerfData",
        "-Dlog4j2.disable.jmx=true",
        "-Dlog4j2.disableJmx=true",
    ]
    if fast_start:
        chosen += ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    return chosen
