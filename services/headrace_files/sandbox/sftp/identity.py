"""Keys and the password of a stand-in, kept in a folder, so that a server that is started again is the same one."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import asyncssh


@dataclass(frozen=True)
class Identity:
    """Two host keys (the second is the wrong one), and what its user logs in with: `user_key` or `password_file`."""

    host_keys: tuple[Path, Path]
    user_key: Path
    password_file: Path

    @property
    def password(self) -> str:
        """The user's password."""
        return self.password_file.read_text("utf-8").strip()

    def fingerprint(self, which: int = 1) -> str:
        """SHA256:… of a host key, 1 or 2, as `ssh-keygen -lf` shows it."""
        return str(asyncssh.read_public_key(public(self.host_keys[which - 1])).get_fingerprint())


def public(key: Path) -> Path:
    """Where the public half of a private key lies."""
    return key.with_name(f"{key.name}.pub")


def identity(folder: Path) -> Identity:
    """What is in the folder; what is not there yet is made. All of it is for its owner's eyes only."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    password_file = folder / "password"
    if not password_file.exists():
        password_file.touch(0o600)
        password_file.write_text(secrets.token_urlsafe(18) + "\n", "utf-8")
    return Identity(
        (_key(folder / "host_key_1"), _key(folder / "host_key_2")), _key(folder / "user_key"), password_file
    )


def _key(place: Path) -> Path:
    if not public(place).exists():
        made = asyncssh.generate_private_key("ssh-ed25519", comment=f"sandbox {place.name}")
        place.touch(0o600)
        made.write_private_key(place)
        made.write_public_key(public(place))
    return place
