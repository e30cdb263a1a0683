"""The versitygw program in the user's cache, built once by Go."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from headrace.errors import ConfigError
from headrace.resources import cache_folder, locked

VERSION = "v1.8.0"
_PACKAGE = "github.com/versity/versitygw/cmd/versitygw"
_BUILD_TIMEOUT = 1200.0  # seconds; 80 s on two cores with an empty cache


class GoMissing(ConfigError):
    """The S3 server versitygw {version} is not in {cache} yet and `go`, which builds it once, is not on PATH. Install Go 1.25 or newer, or 1.21 or newer with the network, which fetches what it needs by itself."""  # noqa: E501

    code = "go-missing"


class VersitygwNotBuilt(ConfigError):
    """Go could not build the S3 server versitygw {version}: {problem}. Try `{command}` to see more."""

    code = "versitygw-not-built"


def ensure_versitygw() -> Path:
    """Return the program, building it if this cache does not have it.

    Raises GoMissing or VersitygwNotBuilt.
    """
    program = _place()
    if not program.exists():
        with locked(program.parent / "build.lock"):
            if not program.exists():
                _build(program)
    return program


def versitygw_here() -> Path | None:
    """Return the program if this cache has it."""
    return _place() if _place().exists() else None


def _place() -> Path:
    return cache_folder() / "versitygw" / VERSION / "versitygw"


def _build(program: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise GoMissing(version=VERSION, cache=program.parent)
    command = [go, "install", "-trimpath", f"{_PACKAGE}@{VERSION}"]
    with tempfile.TemporaryDirectory(dir=program.parent, prefix="building-") as unfinished:
        # Distributions switch off the download of the newer toolchain that the module asks for.
        environment = {"GOTOOLCHAIN": "auto", **os.environ, "GOBIN": unfinished}
        try:
            run = subprocess.run(
                command,
                env=environment,
                cwd=unfinished,
                capture_output=True,
                text=True,
                timeout=_BUILD_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            problem = f"no end after {_BUILD_TIMEOUT:.0f} s"
            raise VersitygwNotBuilt(version=VERSION, problem=problem, command=" ".join(command)) from error
        if run.returncode != 0:
            said = run.stderr.strip().splitlines()
            problem = said[-1] if said else f"exit code {run.returncode}"
            raise VersitygwNotBuilt(version=VERSION, problem=problem, command=" ".join(command))
        Path(unfinished, "versitygw").rename(program)
