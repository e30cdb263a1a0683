"""The jars of Apache Kafka in the user's cache, fetched once by Maven, and the class-data archives beside them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from headrace.broker.errors import JarsNotFetched, MavenMissing
from headrace.resources import cache_folder, locked, resource

_FETCH_TIMEOUT = 1200.0  # seconds; 54 MB over a poor line


@dataclass(frozen=True)
class Jars:
    """The complete set of jars that one `deploy/kafka/pom.xml` resolves to.

    Parameters:
        folder: where they lie; its name holds the hash of the pom, so a new pom is a new folder.
    """

    folder: Path

    @property
    def classpath(self) -> str:
        """Every jar by name, in a fixed order: a class-data archive is only valid for the very same text."""
        return os.pathsep.join(str(jar) for jar in sorted(self.folder.glob("*.jar")))


def ensure_jars() -> Jars:
    """Return the jars, fetching them if this cache does not have them.

    Raises MavenMissing or JarsNotFetched.
    """
    jars = _place()
    if not jars.folder.is_dir():
        with locked(jars.folder.parent / "fetch.lock"):
            if not jars.folder.is_dir():
                _fetch(_pom(), jars.folder)
    return jars


def jars_here() -> Jars | None:
    """Return the jars if this cache has them."""
    jars = _place()
    return jars if jars.folder.is_dir() else None


def _pom() -> Path:
    return resource("deploy", "kafka", "pom.xml")


def _place() -> Jars:
    return Jars(cache_folder() / "kafka" / hashlib.sha256(_pom().read_bytes()).hexdigest()[:12])


def _fetch(pom: Path, folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise MavenMissing(cache=folder.parent)
    # Copied beside its final place and renamed, so that a folder of this name is always complete.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as unfinished:
        target = Path(unfinished) / "jars"
        command = [maven, "--batch-mode", "--quiet", "--file", str(pom), "dependency:copy-dependencies"]
        command += ["-DincludeScope=runtime", f"-DoutputDirectory={target}"]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_TIMEOUT, check=False)
        except subprocess.TimeoutExpired as error:
            problem = f"no end after {_FETCH_TIMEOUT:.0f} s"
            raise JarsNotFetched(pom=pom, problem=problem, command=" ".join(command)) from error
        if run.returncode != 0:
            said = (run.stdout + run.stderr).strip().splitlines()
            problem = said[0] if said else f"exit code {run.returncode}"
            raise JarsNotFetched(pom=pom, problem=problem, command=" ".join(command))
        target.rename(folder)
