"""What each setting of the old loader is called here. Source: reference art 1.4."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from headrace_art.mapping.values import DEFAULT_GRADES

_BATCH_URL = re.compile(r"(.+)/external/student/([A-Za-z]{2})/batch/?")

_NEEDLESS = {
    **dict.fromkeys(
        ("MONGO_HOST", "MONGO_PORT", "MONGO_DBNAME", "MONGO_DISTRICTS", "MONGO_INSTITUTIONS", "MONGO_STUDENTS"),
        "ART's database is not touched any more",
    ),
    **dict.fromkeys(("SLEEP_INTERVAL", "WAIT_CYCLES_BEFORE_QUIT"), "files are taken when they are complete"),
    "BUFFER_SIZE": "the download finds its own sizes",
    "NUM_STUDENTS": "give --number on the command line",
}
_DATASET = {"DELIMITER": ("^",), "FILE_ENCODING": ("latin1", "latin-1", "iso-8859-1", "ISO-8859-1")}


@dataclass(frozen=True)
class Setting:
    """A setting of ours: its section, name and value; a secret goes to a file of its own."""

    section: str
    name: str
    value: Any
    secret: bool = False

    def __repr__(self) -> str:
        return f"Setting({self.section}.{self.name})"


@dataclass
class Converted:
    """The settings, and what a person should know of those that have no counterpart."""

    settings: list[Setting] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, section: str, name: str, value: Any, *, secret: bool = False) -> None:
        """Take a setting; one that is set already is replaced, None and blank are not set."""
        if value is None or value == "":
            return
        self.settings = [each for each in self.settings if (each.section, each.name) != (section, name)]
        self.settings.append(Setting(section, name, value, secret))


def convert(old: Mapping[str, Any]) -> Converted:
    """Ours for theirs. Notes name old settings, never their values."""
    converted = Converted()
    for name, value in old.items():
        if name in _HANDLERS:
            try:
                _HANDLERS[name](converted, value)
            except (TypeError, ValueError, AttributeError):
                converted.notes.append(f"{name}: its value is of another kind than expected; set it by hand")
        elif name in _NEEDLESS:
            if value is not None:
                converted.notes.append(f"{name}: not needed, {_NEEDLESS[name]}")
        elif name in _DATASET:
            if value not in _DATASET[name]:
                converted.notes.append(f"{name}: declare it in the dataset of the students")
        elif name.isupper() and not name.startswith(("SFTP_FILE", "SFTP_SCHOOL_FILE")):
            converted.notes.append(f"{name}: unknown; see whether it is needed")
    _remote_names(converted, old)
    return converted


def _batch_url(converted: Converted, value: str) -> None:
    found = _BATCH_URL.fullmatch(value)
    if found is None:
        raise ValueError(value)
    if not any(each.name == "url" for each in converted.settings):
        converted.add("art", "url", found[1])
    elif not any(each.name == "url" and each.value.rstrip("/") == found[1] for each in converted.settings):
        converted.notes.append("ART_STUDENT_ENDPOINT: another address than ART_REST_ENDPOINT; here one serves both")
    converted.add("art", "state", found[2])


def _payload(converted: Converted, value: Mapping[str, str]) -> None:
    for name, text in value.items():
        if name in ("username", "client_id", "scope"):
            converted.add("art", name, text)
        elif name in ("password", "client_secret"):
            converted.add("art", name, text, secret=True)
        elif name != "grant_type" or text != "password":
            converted.notes.append("AUTH_PAYLOAD: it has a key or a grant type that is not supported")


def _grades(converted: Converted, value: Mapping[str, str]) -> None:
    own = {grade: wanted for grade, wanted in value.items() if DEFAULT_GRADES.get(grade) != wanted}
    if own:
        converted.add("art", "grades", own)


def _plain(section: str, name: str, kind: type, *, secret: bool = False) -> Callable[[Converted, Any], None]:
    def handle(converted: Converted, value: Any) -> None:
        if value is not None and not isinstance(value, kind):
            raise TypeError(name)
        converted.add(section, name, value, secret=secret)

    return handle


_HANDLERS: Mapping[str, Callable[[Converted, Any], None]] = {
    "ART_REST_ENDPOINT": _plain("art", "url", str),
    "ART_STUDENT_ENDPOINT": _batch_url,
    "ART_ENDPOINT": _batch_url,
    "STATE_ABBREVIATION": _plain("art", "state", str),
    "ART_SSL_CHECKS": _plain("art", "tls_check", bool),
    "AUTH_ENDPOINT": _plain("art", "token_url", str),
    "AUTH_PAYLOAD": _payload,
    "CHUNK_SIZE": _plain("art", "batch_students", int),
    "GRADEMAP": _grades,
    "SFTP_HOSTNAME": _plain("sftp_source", "host", str),
    "SFTP_PORT": _plain("sftp_source", "port", int),
    "SFTP_USER": _plain("sftp_source", "user", str),
    "SFTP_PASSWORD": _plain("sftp_source", "password", str, secret=True),
    "SFTP_KEYFILE": _plain("sftp_source", "key_file", str),
    "SFTP_KEYPASS": _plain("sftp_source", "key_passphrase", str, secret=True),
}


def _remote_names(converted: Converted, old: Mapping[str, Any]) -> None:
    """The dated patterns: folder, stem, strftime format and extension in one."""
    for prefix, name in (("SFTP_FILE", "students"), ("SFTP_SCHOOL_FILE", "schools")):
        folder, stem = old.get(f"{prefix}_DIR"), old.get(f"{prefix}_BASENAME")
        if not isinstance(folder, str) or not isinstance(stem, str):
            continue
        date, extension = old.get("SFTP_FILE_DATEFORMAT") or "", old.get("SFTP_FILE_EXT") or ""
        pattern = f"{stem}{date}{'.' if extension else ''}{extension}"
        converted.add("sftp_source", name, str(PurePosixPath(folder) / pattern))
