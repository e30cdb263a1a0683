"""Secrets that lie in files: a field `x` of type SecretStr may be set as `x_file`, a path that nobody else can read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from headrace.config.errors import SecretFileMissing, SecretReadable

LARGEST_SECRET = 64 * 1024


def check_private(path: Path, setting: str) -> None:
    """See that only its owner can read `path`.

    A group may read a file that belongs to somebody else, which is how Kubernetes mounts a secret with `fsGroup`.

    Raises SecretReadable if others can read or write it, OSError if it is not there.
    """
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    forbidden = 0o077 if found.st_uid == os.geteuid() else 0o027
    if mode & forbidden:
        raise SecretReadable(path=path, setting=setting, mode=f"{mode:04o}")


def read_secret(path: Path, setting: str, where: str) -> str:
    """The secret in `path`, without the newline at its end.

    Raises SecretReadable if others can read the file, SecretFileMissing if it cannot be read or is no text.
    """
    try:
        check_private(path, setting)
        raw = path.read_bytes()
        if not raw.strip() or len(raw) > LARGEST_SECRET:
            raise SecretFileMissing(
                setting=setting, where=where, path=path, problem=f"it has {len(raw)} bytes, which is no secret"
            )
        return raw.decode("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SecretFileMissing(setting=setting, where=where, path=path, problem=problem) from error
