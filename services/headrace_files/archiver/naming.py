"""The name of an object, made of what a file is called: deterministic, reversible, never shared by two paths.

Bytes of a path are kept as they are where they are valid UTF-8 that every S3 client can show. Percent-encoded are
control characters, bytes that are not UTF-8, "%" itself, and a "~" that would look like a version mark. Another version
of a path whose name is taken is called `<name>~<file id>`. Source: design section 4, "Object stores".
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import NamedTuple

from headrace.errors import ConfigError, PermanentError

LONGEST_KEY = 1024
"""Bytes in an object's name. Source: Amazon S3 user guide, "Naming Amazon S3 objects"."""

DEFAULT_TEMPLATE = "{source}/{date}/{path}"

_EPOCH = date(1970, 1, 1)
_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_VERSION_MARK = re.compile(r"~([0-9a-f]{32})\Z")
_FILE_ID = re.compile(r"[0-9a-f]{32}\Z")
# Characters that XML 1.0 cannot carry (a listing is XML), that start a new line, or that we use ourselves.
_ENCODED = re.compile("[%\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_ESCAPE = re.compile(rb"%([0-9A-F]{2})")


class UnsafePath(PermanentError):
    """The file's path cannot be the name of an object: {problem}."""

    code = "unsafe-path"


class KeyTooLong(PermanentError):
    """The object's name would have {length} bytes; an object store takes 1024 at the most."""

    code = "key-too-long"


class WrongTemplate(ConfigError):
    """The setting template is wrong: {problem}. A template is like {{source}}/{{date}}/{{path}}."""

    code = "wrong-template"


class Named(NamedTuple):
    """What an object's name says: which file of which source, and its id where the name bears one."""

    source: str
    path: bytes
    date: date | None
    file: str | None


class Names(NamedTuple):
    """The two names that a version of a file may get: its own, and the one beside another version."""

    plain: str
    versioned: str


class Naming:
    """Turns files into objects' names by a template, and back.

    Parameters:
        template: folders and placeholders; `{path}` stands at its end, `{source}` before it, `{date}` (UTC date of
            the file's mtime) where one wants it.
        prefix: begins every name; empty, or ends with "/".

    Raises WrongTemplate where two files could get one name.
    """

    def __init__(self, template: str = DEFAULT_TEMPLATE, prefix: str = "") -> None:
        self._check(template)
        self._template = prefix.replace("{", "{{").replace("}", "}}") + template
        pattern = re.escape(prefix)
        last = 0
        for found in _PLACEHOLDER.finditer(template):
            pattern += re.escape(template[last : found.start()]) + _PATTERNS[found[1]]
            last = found.end()
        self._pattern = re.compile(pattern + r"\Z", re.DOTALL)

    def names(self, source: str, path: bytes, mtime_ns: int, file: str) -> Names:
        """The names for one version of a file.

        Parameters:
            path: relative to its source's root, in the bytes of its file system.
            mtime_ns: nanoseconds since the epoch.
            file: the file id, 32 hexadecimal digits.

        Raises UnsafePath for what is no relative path, KeyTooLong.
        """
        if not _FILE_ID.match(file):
            raise UnsafePath(problem="its file id is not 32 hexadecimal digits")
        plain = self._template.format(
            source=_encode_source(source), date=utc_date(mtime_ns).isoformat(), path=_encode_path(path)
        )
        versioned = f"{plain}~{file}"
        length = len(versioned.encode())
        if length > LONGEST_KEY:
            raise KeyTooLong(length=length)
        return Names(plain, versioned)

    def parse(self, key: str) -> Named | None:
        """What file a name stands for; None if it is not one of ours."""
        mark = _VERSION_MARK.search(key)
        found = self._pattern.match(key[: mark.start()] if mark else key)
        if found is None:
            return None
        parts = found.groupdict()
        try:
            day = date.fromisoformat(parts["date"]) if "date" in parts else None
            source = _decode(parts["source"]).decode("utf-8")
        except ValueError:
            return None
        return Named(source, _decode(parts["path"]), day, mark[1] if mark else None)

    @staticmethod
    def _check(template: str) -> None:
        found = _PLACEHOLDER.findall(template)
        if unknown := set(found) - set(_PATTERNS):
            raise WrongTemplate(problem=f"it has the unknown placeholder {{{min(unknown)}}}")
        if len(found) != len(set(found)) or not {"source", "path"} <= set(found):
            raise WrongTemplate(problem="it needs {source} and {path}, each once")
        if not template.endswith("/{path}"):
            raise WrongTemplate(problem="it must end with /{path}")
        literal = _PLACEHOLDER.sub("", template)
        if set("{}%~") & set(literal) or not literal.isprintable():
            raise WrongTemplate(problem='around placeholders it may not have "{", "}", "%", "~", control characters')
        parts = template.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise WrongTemplate(problem='its folders may not be empty, "." or ".."')
        if any("{source}" in part and part != "{source}" for part in parts):
            raise WrongTemplate(problem="{source} must be a folder of its own")


def utc_date(mtime_ns: int) -> date:
    """The UTC date of a time in nanoseconds since the epoch; all of 64 bits fit."""
    return _EPOCH + timedelta(days=mtime_ns // 86_400_000_000_000)


def _encode_source(source: str) -> str:
    if not source:
        raise UnsafePath(problem="its source has no name")
    encoded = _encode(source.encode("utf-8", "surrogatepass")).replace("/", "%2F")
    return encoded.replace(".", "%2E") if encoded in (".", "..") else encoded


def _encode_path(path: bytes) -> str:
    parts = path.split(b"/")
    if b"" in parts:
        raise UnsafePath(problem="it is absolute, or has an empty part")
    if b"." in parts or b".." in parts:
        raise UnsafePath(problem='it has "." or ".." as a part')
    encoded = _encode(path)
    return _VERSION_MARK.sub(r"%7E\1", encoded)


def _encode(raw: bytes) -> str:
    # Bytes that are not UTF-8 come out as lone surrogates, which `_ENCODED` matches.
    return _ENCODED.sub(_escape, raw.decode("utf-8", "surrogateescape"))


def _escape(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogateescape"))


def _decode(text: str) -> bytes:
    return _ESCAPE.sub(lambda found: bytes((int(found[1], 16),)), text.encode("utf-8"))


_PATTERNS = {
    "source": r"(?P<source>[^/]+)",
    "date": r"(?P<date>\d{4}-\d\d-\d\d)",
    "path": r"(?P<path>.+)",
}
