"""What is in a dead letter, decoded where that is possible, with personal values masked unless they are asked for.

Shown as they are: ids, sizes, times, states, hashes of whole files in our own frames and events, which tell nothing of
a person. Everything else is masked, so that a field that comes later is masked until somebody has thought about it. A
record of somebody's data is masked but for where it came from, whatever its fields are called.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.chunks.frames import Data, Whole
from headrace.errors import PoisonError
from headrace.keys import decode_key
from headrace.stage.decoding import decode_value
from headrace.topics import Topic

_PLAIN = frozenset(
    {
        "acked", "alg", "at", "attempt", "b", "chunk", "code", "count", "covers", "ctime_ns", "dataset", "file",
        "first", "group", "hash", "i", "inode", "job", "k", "kind", "last", "line", "lines", "mode", "mtime_ns", "n",
        "off", "outcome", "partition", "path_id", "size", "source", "state", "type", "v",
    }
)  # fmt: skip
_PLAIN_OF_RECORDS = frozenset({"file", "job", "line"})
_OURS = frozenset({"headrace.chunks.frames", "headrace.events"})
_HEXADECIMAL = frozenset(string.hexdigits)
HEAD_BYTES = 64


def describe(topic: Topic | None, value: bytes, *, unmask: bool) -> dict[str, Any]:
    """The content of a dead letter as values for JSON.

    Parameters:
        topic: the one it was read from, None if that is not known here.
        unmask: show personal values, too. Bytes of files are shown as length and hash in any case.
    """
    problem = "its topic is not known here"
    if topic is not None and topic.framing not in ("original", "foreign"):
        try:
            content: Any = decode_value(topic, value)
        except PoisonError as error:
            problem = str(error)
        else:
            kind = type(content).__name__
            shown: dict[str, Any] = {"kind": kind.lower() if topic.framing == "frames" else kind}
            plain = _PLAIN if type(content).__module__ in _OURS else _PLAIN_OF_RECORDS
            for name in content.__struct_fields__:
                if isinstance(content, Data | Whole) and name == "b":
                    shown[name] = _length_and_hash(content.b)
                else:
                    shown[name] = _value(name, getattr(content, name), None if unmask else plain)
            return shown
    result: dict[str, Any] = {"undecodable": problem, "value": _length_and_hash(value)}
    if unmask:
        result["head"] = value[:HEAD_BYTES].hex(" ")
    return result


def describe_key(key: bytes | None, *, unmask: bool) -> str | None:
    """The key as text: ids as they are, other parts masked unless asked for."""
    if key is None:
        return None
    try:
        parts = decode_key(key)
    except PoisonError:
        return key.hex(" ") if unmask else _masked(key)
    return "/".join(part if unmask or _is_id(part) else _masked(part) for part in parts)


def _value(name: str, value: Any, plain: frozenset[str] | None) -> Any:
    """A field's value for JSON; unless `plain` is None, only the fields that it names are shown."""
    if value is None or isinstance(value, bool):
        return value
    if plain is not None and name not in plain:
        return _masked(value)
    if isinstance(value, bytes | bytearray | memoryview):
        raw = bytes(value)
        return raw.hex() if name in _PLAIN else raw.decode("utf-8", "backslashreplace")
    if isinstance(value, msgspec.Struct):
        return {field: _value(field, getattr(value, field), plain) for field in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {str(field): _value(name, each, plain) for field, each in value.items()}
    if isinstance(value, list | tuple):
        return [_value(name, each, plain) for each in value]
    return value


def _masked(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview | str):
        return f"(masked, {len(value)} {'characters' if isinstance(value, str) else 'bytes'})"
    if isinstance(value, Mapping):
        return dict.fromkeys((str(name) for name in value), "(masked)")
    if isinstance(value, list | tuple):
        return f"(masked, {len(value)} values)"
    return "(masked)"


def _length_and_hash(value: bytes | memoryview) -> dict[str, Any]:
    return {"bytes": len(value), "sha256": hashlib.sha256(value, usedforsecurity=False).hexdigest()}


def _is_id(part: str) -> bool:
    return len(part) == 32 and _HEXADECIMAL.issuperset(part)
