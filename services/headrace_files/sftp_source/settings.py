"""The section `[sftp_source]`."""

from __future__ import annotations

import platform
from datetime import timedelta
from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from headrace.chunks.frames import DEFAULT_CHUNK
from headrace.config import Duration, ServiceSettings, Size

CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
"""AES-GCM first: with paramiko it is several times as fast as the others, which need a checksum of their own."""


class SftpSourceSettings(ServiceSettings):
    """Which server, which files of it, how often, and how they are sent on."""

    host: str = Field(description="Name or address of the server.", min_length=1)
    port: int = Field(22, description="TCP port of the server.", ge=1, le=65535)
    user: str = Field(description="User to log in as.", min_length=1)
    password: SecretStr | None = Field(None, description="Its password.")
    key_file: Path | None = Field(None, description="Its private key: RSA, ECDSA or Ed25519, OpenSSH's form or PEM.")
    key_passphrase: SecretStr | None = Field(None, description="Passphrase of the private key.")
    known_hosts: Path = Field(
        Path("~/.ssh/known_hosts"), description="File of known host keys, as OpenSSH keeps it, if none is pinned."
    )
    fingerprint: str | None = Field(
        None,
        description="The host key's fingerprint, SHA256:…, as `ssh-keygen -lf` shows it; then known_hosts is not read.",
        pattern=r"^SHA256:[A-Za-z0-9+/]{43}=?$",
    )
    ciphers: list[str] = Field(list(CIPHERS), description="Ciphers to offer, the preferred one first.", min_length=1)
    paths: list[str] = Field(
        [],
        description="Files to fetch; % stands for parts of today's local date, as in strftime:"
        " ./Students/CA_students_%Y%m%d.zip. Commands that know their files, such as `art load`, need none.",
    )
    every: Duration = Field(timedelta(minutes=15), description="Time between two looks at the server.", gt=timedelta(0))
    settle: Duration = Field(
        timedelta(seconds=10), description="A file is fetched when its size and time have been still for this long."
    )
    timeout: Duration = Field(
        timedelta(seconds=60), description="A server that says nothing for this long is given up.", gt=timedelta(0)
    )
    tries: int = Field(
        8, description="With --once: how often in a row it is tried without any byte coming through.", ge=1
    )
    outstanding: int = Field(
        16, description="Read requests under way; their bytes, 256 KiB each at most, bound the memory.", ge=1, le=256
    )
    folder: Path | None = Field(
        None, description="Folder for files that are being fetched; by default below the state folder."
    )
    source: str = Field(
        default_factory=platform.node,
        description="Name of this sender on the log; one process at a time uses it. Default: the host's name.",
        pattern=r"^[^/\x00-\x1f]{1,200}$",
    )
    dataset: str | None = Field(None, description="Name of the dataset that the files belong to, for `csv_fanout`.")
    chunk_size: Size = Field(
        DEFAULT_CHUNK, description="Bytes of a frame: a power of two from 4 KiB to what the topic allows."
    )
    attempts: int = Field(
        3, description="How often a version is offered again after a receiver said that it failed.", ge=0, le=1000
    )
    drain: Duration = Field(
        timedelta(seconds=8), description="After SIGTERM, time for the file that is being sent; then it stops half-way."
    )

    @field_validator("paths")
    @classmethod
    def _paths_have_names(cls, paths: list[str]) -> list[str]:
        for path in paths:
            if not path.strip() or path.endswith("/") or "\0" in path:
                raise ValueError(f"{path!r} names no file")
        return paths
