"""What a source has put on the log, read from raw bytes: msgpack and fastavro only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import msgpack

from tests.support.oracle import avro_records, messages


@dataclass
class SentVersion:
    """One version of one file, as its frames tell it."""

    path: bytes = b""
    attempt: int = 0
    kinds: list[str] = field(default_factory=list)
    pieces: dict[int, bytes] = field(default_factory=dict)
    bytes_on_log: int = 0
    partitions: set[int] = field(default_factory=set)
    close: dict[str, Any] | None = None
    abort: str | None = None
    opened: dict[str, Any] | None = None
    headers: list[Any] = field(default_factory=list)

    @property
    def content(self) -> bytes | None:
        """The bytes, if all are there and have the hash that the sender computed."""
        if self.close is None or self.opened is None:
            return None
        whole = b"".join(self.pieces[offset] for offset in sorted(self.pieces))
        good = hashlib.new(self.close["alg"], whole).digest() == self.close["hash"]
        return whole if good and len(whole) == self.close.get("size", len(whole)) else None


def versions(bootstrap: str, prefix: str, topic: str = "chunks") -> dict[tuple[str, str], SentVersion]:
    """Every version on a topic of chunks by (path id, file id), in the order of their first frames."""
    found: dict[tuple[str, str], SentVersion] = {}
    for message in messages(bootstrap, prefix + topic):
        path_id, file = (message.key() or b"").decode().split("/")
        frame = msgpack.unpackb(message.value() or b"")
        version = found.setdefault((path_id, file), SentVersion())
        version.kinds.append(frame["k"])
        version.partitions.add(message.partition() or 0)
        version.headers.append(message.headers())
        match frame["k"]:
            case "open":
                version.opened, version.path, version.attempt = frame, frame["path"], frame["attempt"]
            case "data":
                version.pieces[frame["off"]] = frame["b"]
                version.bytes_on_log += len(frame["b"])
            case "close":
                if frame.get("abort") is not None:
                    version.abort = frame["abort"]
                else:
                    version.close = frame
            case "whole":
                version.opened = version.close = frame
                version.path, version.attempt = frame["path"], frame["attempt"]
                version.pieces = {0: frame["b"]}
                version.bytes_on_log += len(frame["b"])
    return found


def contents(bootstrap: str, prefix: str) -> dict[bytes, list[bytes | None]]:
    """The content of every version, by path; None: not complete, or aborted."""
    found: dict[bytes, list[bytes | None]] = {}
    for version in versions(bootstrap, prefix).values():
        found.setdefault(version.path, []).append(version.content)
    return found


def events(bootstrap: str, prefix: str) -> list[dict[str, Any]]:
    """Every file event, in log order per partition."""
    return list(avro_records(bootstrap, prefix + "files", "FileEvent"))


def announced(bootstrap: str, prefix: str) -> set[bytes]:
    """The paths of which some version is announced."""
    return {event["path"] for event in events(bootstrap, prefix) if event["state"] == "announced"}
