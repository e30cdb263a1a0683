"""Objects on their way: a small one in one request, a large one in parts, sent by workers while the log is read.

An upload in parts begins with a look: uploads that an earlier life left under its names are aborted, and a version that
is in the bucket already is not sent again. It is completed only after the file's hash was verified, and only if its
name is still free. However it ends, nothing of it is left behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import structlog

from headrace.errors import HeadraceError, PermanentError, RefusedError
from headrace.objects.errors import ObjectExists, StoreUnwell, UploadGone
from headrace.objects.store import MOST_PARTS, Head, Stored
from headrace.stage import kill
from headrace_files.archiver.buffers import PartBody
from headrace_files.archiver.destination import Arrived, Destination, FileVersion
from headrace_files.archiver.patience import Withdrawn
from headrace_files.archiver.workers import Workers

log = structlog.get_logger(__name__)

FAILURES_TO_ASK = 2
"""Completions that fail as if the store were unwell before it is asked whether it is the name."""


class Ended(NamedTuple):
    """An upload has ended without an object, and nothing of it is left; `code` says why."""

    code: str


Result = Arrived | Ended | PermanentError
Report = Callable[["Upload", Result], None]


class UploadFailed(PermanentError):
    """The upload failed with {error}; that is a bug: report it, then replay the file."""

    code = "unexpected"


class TooManyParts(RefusedError):
    """The file needs more than 10,000 parts, the most an object store takes."""

    code = "too-many-parts"


class Upload:
    """One version of a file on its way.

    The stage's thread adds parts and says how it ends; workers do the work, in whatever order; the last of them reports
    the result, once. Parts that are sent or dropped are told to `released`, in bytes.
    """

    def __init__(self, version: FileVersion, destination: Destination, workers: Workers, report: Report) -> None:
        self.version = version
        self._destination = destination
        self._workers = workers
        self._report = report
        self._lock = threading.Lock()
        self._withdrawn = False
        self._prepared = False
        self._key = version.names.plain
        self._upload: str | None = None
        self._there: Arrived | None = None
        self._found: dict[str, Head] = {}
        self._waiting: list[tuple[int, PartBody]] = []
        self._under_way = 0
        self._count = 0
        self._etags: dict[int, str] = {}
        self._content: tuple[bytes, int] | None = None
        self._ending: Ended | PermanentError | None = None
        self._closing = False
        self._unwell = 0

    @property
    def parts(self) -> int:
        """How many parts were added."""
        return self._count

    def put(self, body: PartBody, sha256: bytes) -> None:
        """Send the whole of it in one request; no parts may have been added."""
        self._start(partial(self._put, body, sha256))

    def add(self, body: PartBody) -> None:
        """Send the next part."""
        with self._lock:
            self._count += 1
            number = self._count
            if self._ending is not None or self._there is not None or self._withdrawn:
                body.release()
                return
            if number > MOST_PARTS:
                body.release()
                self._ending = TooManyParts()
            elif self._prepared:
                self._send(number, body)
            else:
                self._waiting.append((number, body))
                if number == 1:
                    self._start(self._prepare)
        self._go_on()

    def finish(self, sha256: bytes, size: int) -> None:
        """All parts were added, and this is what they are together, verified: make the object."""
        with self._lock:
            self._content = (sha256, size)
        self._go_on()

    def abandon(self, code: str) -> None:
        """Make no object of it; `code` is reported when nothing is left of it."""
        with self._lock:
            self._ending = self._ending or Ended(code)
        self._go_on()

    def withdraw(self, *, clean: bool) -> None:
        """The work is somebody else's now; nothing is reported. With `clean`, what was begun is aborted."""
        with self._lock:
            self._withdrawn = True
            waiting, self._waiting = self._waiting, []
            upload = self._upload
        for _, body in waiting:
            body.release()
        if clean and upload is not None:
            self._start(partial(self._abort_once, upload))

    def wanted(self) -> bool:
        """Whether anybody waits for this."""
        return not self._withdrawn

    # From here on: workers.

    def _put(self, body: PartBody, sha256: bytes) -> None:
        try:
            arrived = self._destination.put(self.version, body.contiguous(), sha256, self.wanted)
        finally:
            body.release()
        kill.point("archiver.after-effect-before-receipt")
        self._report(self, arrived)

    def _prepare(self) -> None:
        version, destination = self.version, self._destination
        there, found = destination.own(version, self.wanted)
        upload = None
        names = version.names
        key = names.versioned if version.taken or names.plain in found else names.plain
        if there is None:
            upload = destination.begin(version, key, self.wanted)
        else:
            destination.clear(version, self.wanted)
        with self._lock:
            self._there, self._found, self._key, self._upload = there, found, key, upload
            self._prepared = True
            waiting, self._waiting = self._waiting, []
            for number, body in waiting:
                if there is None:
                    self._send(number, body)
                else:
                    body.release()
            withdrawn = self._withdrawn
        if withdrawn and upload is not None:
            self._abort_once(upload)

    def _send(self, number: int, body: PartBody) -> None:
        self._under_way += 1
        self._start(partial(self._part, number, body))

    def _part(self, number: int, body: PartBody) -> None:
        store, key, upload = self._destination.store, self._key, self._upload
        try:
            if upload is None or self._ending is not None:
                return
            etag = self._destination.call(lambda: store.upload_part(key, upload, number, body.content()), self.wanted)
            with self._lock:
                self._etags[number] = etag
            kill.point("archiver.between-parts")
        finally:
            body.release()
            with self._lock:
                self._under_way -= 1

    def _complete(self, sha256: bytes, size: int) -> None:
        arrived = self._already_there(sha256, size)
        upload = self._upload
        if arrived is None and upload is None:
            # Our own object, but not of this size: somebody has written over it.
            self._report(self, Ended("destination-changed"))
            return
        if arrived is None and upload is not None:
            kill.point("archiver.before-complete")
            try:
                stored = self._destination.call(partial(self._complete_once, upload), self.wanted)
            except (ObjectExists, UploadGone) as error:
                # Perhaps an earlier try made it, and its answer was lost.
                arrived = self._destination.explains(self.version, self._key, sha256, size, self.wanted)
                if arrived is None:
                    self._end(Ended("destination-changed" if isinstance(error, ObjectExists) else "upload-gone"))
                    return
            else:
                arrived = Arrived(self._key, stored, written=True)
        if arrived is not None:
            if upload is not None and not arrived.written:
                self._abort(upload)
            kill.point("archiver.after-effect-before-receipt")
            self._report(self, arrived)

    def _complete_once(self, upload: str) -> Stored:
        store = self._destination.store
        etags = [self._etags[number] for number in range(1, self._count + 1)]
        try:
            return store.complete(self._key, upload, etags)
        except StoreUnwell:
            self._unwell += 1
            refusal = store.refusal(self._key) if self._unwell >= FAILURES_TO_ASK else None
            if refusal is not None:
                raise refusal from None
            raise

    def _already_there(self, sha256: bytes, size: int) -> Arrived | None:
        """This version, or equal content under one of its names, as seen before the first part was sent."""
        if self._there is not None:
            return self._there if self._found[self._there.key].size == size else None
        for key, head in self._found.items():
            if self._destination.equal(key, head, sha256, size, self.wanted):
                return Arrived(key, head.stored, written=False)
        return None

    def _end(self, ending: Ended | PermanentError) -> None:
        if self._upload is not None:
            try:
                self._abort(self._upload)
            except PermanentError:
                log.warning("an unfinished upload could not be aborted", code=ending.code)
        self._report(self, ending)

    def _abort(self, upload: str) -> None:
        self._destination.call(partial(self._destination.store.abort, self._key, upload), self.wanted)

    def _abort_once(self, upload: str) -> None:
        """Clean up behind work that was withdrawn: one try, since the next owner cleans up as well."""
        try:
            self._destination.store.abort(self._key, upload)
        except HeadraceError:
            log.warning("an unfinished upload was left to its next owner")

    def _go_on(self) -> None:
        """Start the last step once everything before it is done."""
        with self._lock:
            busy = self._under_way > 0 or (self._count > 0 and not self._prepared)
            if self._closing or self._withdrawn or busy:
                return
            if self._ending is not None:
                last: Callable[[], None] = partial(self._end, self._ending)
            elif self._content is not None:
                last = partial(self._complete, *self._content)
            else:
                return
            self._closing = True
        self._start(last)

    def _start(self, step: Callable[[], None]) -> None:
        self._workers.submit(partial(self._run, step))

    def _run(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Withdrawn:
            return
        except UploadGone:
            self._fail(Ended("upload-gone"))
        except PermanentError as error:
            self._fail(error)
        except Exception as error:
            log.error("an upload failed unexpectedly", error=type(error).__name__, exc_info=True)
            self._fail(UploadFailed(error=type(error).__name__))
        self._go_on()

    def _fail(self, ending: Ended | PermanentError) -> None:
        with self._lock:
            at_the_end = self._closing and self._ending is not None
            self._ending = self._ending or ending
            self._prepared = True
            self._closing = at_the_end
            waiting, self._waiting = self._waiting, []
        for _, body in waiting:
            body.release()
        if at_the_end:
            self._report(self, self._ending)
