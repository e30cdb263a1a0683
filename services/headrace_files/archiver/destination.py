"""What the bucket holds already, and what that means for a version of a file.

A name that is free is taken. One that is taken by this very version, or by equal content, means done. Anything else
stays as it is, and this version is called `<name>~<file id>`: an archive keeps every version.
Source: design section 4, "Object stores".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

from headrace.errors import RefusedError
from headrace.objects.errors import ObjectExists, ObjectMissing
from headrace.objects.store import Body, Head, ObjectStore, Stored
from headrace_files.archiver.naming import Names
from headrace_files.archiver.patience import Patience

FILE = "headrace-file"
SHA256 = "headrace-sha256"
MTIME = "headrace-mtime-ns"

Answer = TypeVar("Answer")
Wanted = Callable[[], bool]


class NameTaken(RefusedError):
    """The name of this version is taken by an object with other content, which is not ours."""

    code = "name-taken"


class Arrived(NamedTuple):
    """The content is in the bucket under `key`; `written` tells whether it was put there just now."""

    key: str
    stored: Stored
    written: bool


class FileVersion(NamedTuple):
    """One version of a file on its way into the bucket. `taken`: another version is on its way to the plain name."""

    file: str
    names: Names
    mtime_ns: int
    taken: bool

    def metadata(self, sha256: bytes | None = None) -> Mapping[str, str]:
        """What the object says of itself. The hash of an object in parts is not known when it begins."""
        own = {FILE: self.file, MTIME: str(self.mtime_ns)}
        return own if sha256 is None else own | {SHA256: sha256.hex()}


class Destination:
    """The bucket, with patience. All methods are for workers: they wait for the store as long as it takes."""

    def __init__(self, store: ObjectStore, patience: Patience) -> None:
        self.store = store
        self._patience = patience

    def call(self, request: Callable[[], Answer], wanted: Wanted) -> Answer:
        """Make a request until the store answers; see Patience."""
        return self._patience.call(request, wanted)

    def head(self, key: str, wanted: Wanted) -> Head | None:
        """What is known of an object, None if there is none."""
        return self.call(partial(self.store.head, key), wanted)

    def put(self, version: FileVersion, body: Body, sha256: bytes, wanted: Wanted) -> Arrived:
        """Store a small version in one conditional request, under the first of its names that is free.

        Raises RefusedError if the store does not take it, Withdrawn.
        """
        metadata = version.metadata(sha256)
        keys: tuple[str, ...] = version.names
        if version.taken:
            arrived, _ = self.own(version, wanted)
            if arrived is not None:
                return arrived
            keys = (version.names.versioned,)
        for key in keys:
            try:
                stored = self.call(partial(self.store.put_new, key, body, metadata), wanted)
            except ObjectExists:
                arrived = self.explains(version, key, sha256, len(body), wanted)
                if arrived is not None:
                    return arrived
            else:
                return Arrived(key, stored, written=True)
        raise NameTaken

    def own(self, version: FileVersion, wanted: Wanted) -> tuple[Arrived | None, dict[str, Head]]:
        """Whether this version is in the bucket already, and what is there under its names."""
        found: dict[str, Head] = {}
        for key in version.names:
            head = self.head(key, wanted)
            if head is not None:
                found[key] = head
                if head.metadata.get(FILE) == version.file:
                    return Arrived(key, head.stored, written=False), found
        return None, found

    def explains(self, version: FileVersion, key: str, sha256: bytes, size: int, wanted: Wanted) -> Arrived | None:
        """Whether the object under `key`, or our own under the other name, is this content.

        An object with other metadata is read and compared, unless its size or its recorded hash tells.
        """
        arrived, found = self.own(version, wanted)
        if arrived is not None:
            return arrived if found[arrived.key].size == size else None
        head = found.get(key)
        if head is not None and self.equal(key, head, sha256, size, wanted):
            return Arrived(key, head.stored, written=False)
        return None

    def equal(self, key: str, head: Head, sha256: bytes, size: int, wanted: Wanted) -> bool:
        """Whether an object's content has this hash and size."""
        if head.size != size:
            return False
        recorded = head.metadata.get(SHA256)
        if recorded is not None:
            return recorded == sha256.hex()
        try:
            return self.call(partial(self._hash, key, wanted), wanted) == sha256
        except ObjectMissing:
            return False

    def begin(self, version: FileVersion, key: str, wanted: Wanted) -> str:
        """Begin an upload in parts, after clearing away what an earlier life left; returns its id."""
        self.clear(version, wanted)
        tried = False

        def create() -> str:
            nonlocal tried
            if tried:
                # The store may have begun an upload without our hearing of it.
                self._abort_stale(version)
            tried = True
            return self.store.create(key, version.metadata())

        return self.call(create, wanted)

    def clear(self, version: FileVersion, wanted: Wanted) -> None:
        """Abort uploads in parts that an earlier life left under the names of this version."""
        self.call(partial(self._abort_stale, version), wanted)

    def _abort_stale(self, version: FileVersion) -> None:
        names = {version.names.versioned} if version.taken else set(version.names)
        for found in self.store.list_multiparts(version.names.plain):
            if found.key in names:
                self.store.abort(found.key, found.upload)

    def _hash(self, key: str, wanted: Wanted) -> bytes:
        digest = hashlib.sha256(usedforsecurity=False)
        for piece in self.store.read(key):
            digest.update(piece)
            if not wanted():
                break
        return digest.digest()
