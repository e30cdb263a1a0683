"""The archiver's wiring: frames in, objects and receipts out."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import structlog

from headrace import topics
from headrace.chunks.frames import DEFAULT_ALGORITHM, Close, Data, Open, Whole
from headrace.errors import PermanentError
from headrace.events import Outcome
from headrace.objects.errors import StoreUnwell
from headrace.objects.store import ObjectStore
from headrace.observe.metrics import Metrics
from headrace.stage.arrivals import Silence, identify
from headrace.stage.contract import Context, Message, Partition, Stage
from headrace_files.archiver.arriving import LARGEST_GAP, Arriving
from headrace_files.archiver.buffers import Budget
from headrace_files.archiver.claims import Claims
from headrace_files.archiver.destination import Arrived, Destination, FileVersion
from headrace_files.archiver.metrics import METRICS
from headrace_files.archiver.naming import Naming
from headrace_files.archiver.patience import Patience
from headrace_files.archiver.settings import ArchiverSettings
from headrace_files.archiver.spool import Spool
from headrace_files.archiver.uploads import Ended, Result, Upload
from headrace_files.archiver.workers import Workers

if TYPE_CHECKING:
    from headrace.families import Host

log = structlog.get_logger(__name__)

# While the store is unwell, the partitions are paused from one tick to the next.
PAUSE_SECONDS = 1.5
CLOSE_SECONDS = 5.0


class Archiver(Stage):
    """Stores every version of every file in one bucket."""

    name: ClassVar[str] = "archiver"
    reads: ClassVar[Sequence[topics.Topic]] = (topics.CHUNKS,)
    writes: ClassVar[Sequence[topics.Topic]] = (topics.UPLOAD_ACKS, topics.DEAD_LETTERS)

    def __init__(
        self,
        settings: ArchiverSettings,
        metrics: Metrics | None = None,
        again: Callable[[], ArchiverSettings] | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics or Metrics(METRICS)
        self._naming = Naming(settings.template, settings.prefix)
        self._store = ObjectStore(settings, connections=settings.uploads, again=again)
        self._algorithms = tuple(dict.fromkeys((DEFAULT_ALGORITHM, *settings.algorithms)))
        self.memory = Budget(settings.buffer)
        self._spool = Spool(settings.spool)
        self._files: dict[str, Arriving] = {}
        self._claims = Claims()
        self._results: queue.SimpleQueue[tuple[Upload, Result]] = queue.SimpleQueue()
        self._silence = Silence(settings.incomplete_after.total_seconds())
        self._partitions: set[Partition] = set()
        self._unwell = False
        self._connecting = False

    def setup(self, context: Context) -> None:
        """See that the bucket is there, and start the workers."""
        self._context = context
        self._workers = Workers(self._settings.uploads)
        self._patience = Patience(context.may_act)
        self._destination = Destination(self._store, self._patience)
        try:
            self._store.check(create=self._settings.create_bucket)
        except StoreUnwell as error:
            # No reason not to start: it waits, as it would later.
            log.warning("the object store is not ready", problem=str(error))

    def handle(self, batch: Sequence[Message]) -> None:
        """Pass on the bytes of each frame, and finish files."""
        for message in batch:
            self._silence.met(message)
            if not self._context.done(message):
                self._frame(message)

    def put_aside(self, message: Message) -> None:
        """Forget the file of a frame that could not be handled, and what was begun for it."""
        arriving = self._files.get(message.item)
        if arriving is not None and arriving.takes(message):
            self._forget(arriving)
            arriving.upload.withdraw(clean=True)

    def flush(self) -> None:
        """Hand over receipts of what the workers have finished."""
        # A process that was paused may find its uploads aborted by their new owner, and must not call that a failure.
        while self._context.may_act():
            try:
                upload, result = self._results.get_nowait()
            except queue.Empty:
                return
            arriving = self._files.get(upload.version.file)
            if arriving is not None and arriving.upload is upload:
                self._settle(arriving, result)

    def tick(self, now: float) -> None:  # noqa: ARG002 - log time counts here
        """Pause while the store is unwell; close files that no frame came of for too long."""
        self._report_store()
        self._silence.look(self._context.caught_up)
        waiting = [each for each in self._files.values() if not each.settling]
        for arriving in self._silence.overdue(waiting, self._context):
            self._end(arriving, "incomplete")

    def assigned(self, partitions: Sequence[Partition]) -> None:
        """These partitions are ours from their low-water marks on."""
        self._partitions.update(partitions)

    def revoked(self, partitions: Sequence[Partition], lost: bool) -> None:
        """Forget the files of these partitions; what was begun for them is aborted unless somebody else has them."""
        for arriving in list(self._files.values()):
            if arriving.first.partition in partitions:
                self._forget(arriving)
                arriving.upload.withdraw(clean=not lost)
        self._silence.forget(partitions)
        self._partitions.difference_update(partitions)

    def close(self) -> None:
        """Stop the workers; what was begun is aborted, as far as the store answers."""
        for arriving in list(self._files.values()):
            self._forget(arriving)
            arriving.upload.withdraw(clean=True)
        self._patience.stop()
        if not self._workers.close(CLOSE_SECONDS):
            log.warning("unfinished uploads are left to the next owner: the object store does not answer")
        self._spool.close()

    def _frame(self, message: Message) -> None:
        frame = message.value
        arriving = self._files.get(message.item)
        if arriving is not None and not arriving.takes(message):
            self._context.orphan(message)
        elif isinstance(frame, Open | Whole):
            if arriving is not None:
                arriving.touch(message)
            else:
                self._begin(message, frame)
        elif arriving is None:
            self._context.orphan(message)
        elif arriving.settling:
            # Sent again while it is on its way: its receipt covers this, too.
            arriving.touch(message)
        elif isinstance(frame, Data):
            self.memory.check()
            arriving.touch(message)
            self._data(arriving, frame)
        elif isinstance(frame, Close):
            arriving.touch(message)
            if frame.abort is not None:
                self._end(arriving, "aborted")
                return
            arriving.close = frame
            self._progress(arriving)

    def _begin(self, message: Message, frame: Open | Whole) -> None:
        self.memory.check()
        try:
            file = identify(message, frame)
            names = self._naming.names(frame.source, frame.path, frame.mtime_ns, message.item)
        except PermanentError as error:
            self._context.dead_letter(message, error)
            return
        self._context.open(message.item, message)
        taken = not self._claims.claim(names.plain, message.item)
        version = FileVersion(message.item, names, frame.mtime_ns, taken)
        upload = Upload(version, self._destination, self._workers, self._report)
        arriving = Arriving(message, frame, file, upload, self.memory, self._algorithms)
        self._files[message.item] = arriving
        if isinstance(frame, Open) and not self._connecting:
            # Half a second of work that small files need not, so not at the start.
            self._connecting = True
            self._workers.submit(self.connect)
        if isinstance(frame, Whole):
            arriving.close = Close(v=1, n=1, size=len(frame.b), alg=frame.alg, hash=frame.hash)
            arriving.add(0, frame.b)
            self._progress(arriving)

    def _data(self, arriving: Arriving, frame: Data) -> None:
        arriving.add(frame.off, frame.b)
        if arriving.cursor.ahead > LARGEST_GAP:
            self._end(arriving, "damaged" if self._context.damaged(arriving.first.item) else "gap-too-large")
            return
        if arriving.buffer.size >= arriving.part_size(self._settings.part_size):
            arriving.upload.add(arriving.buffer.cut())
        if self.memory.to_spill:
            self._make_room()
        self._progress(arriving)

    def _progress(self, arriving: Arriving) -> None:
        """See whether the file is whole, or can never be."""
        if arriving.close is None:
            return
        state = arriving.state()
        if state == "complete":
            self._finish(arriving, arriving.close)
        elif self._context.damaged(arriving.first.item):
            self._end(arriving, "damaged")
        elif state == "mismatch":
            self._end(arriving, "hash-mismatch")

    def _finish(self, arriving: Arriving, close: Close) -> None:
        """All bytes are here: verify them, then let the object be made."""
        algorithm = close.alg or DEFAULT_ALGORITHM
        found = arriving.digest(algorithm)
        if found is None:
            log.error("a file's hash cannot be verified; add it to the setting algorithms", algorithm=algorithm)
            self._end(arriving, "hash-not-computed")
        elif found != close.hash:
            self._end(arriving, "hash-mismatch")
        else:
            arriving.settling = True
            sha256 = arriving.sha256
            if not arriving.upload.parts:
                arriving.upload.put(arriving.buffer.cut(), sha256)
                return
            if arriving.buffer.size:
                arriving.upload.add(arriving.buffer.cut())
            arriving.upload.finish(sha256, arriving.cursor.next)

    def _end(self, arriving: Arriving, code: str) -> None:
        """Make no object of it; the receipt follows once nothing of it is left."""
        arriving.settling = True
        arriving.drop()
        arriving.upload.abandon(code)

    def _report(self, upload: Upload, result: Result) -> None:
        self._results.put((upload, result))

    def _settle(self, arriving: Arriving, result: Result) -> None:
        self._forget(arriving)
        if isinstance(result, PermanentError):
            self._context.dead_letter(arriving.first, result)
            log.warning("file refused", code=result.code, item=arriving.first.item)
            return
        outcome: Outcome = "delivered"
        code = where = stored = None
        if isinstance(result, Ended):
            code = result.code
            outcome = "unchanged" if code == "aborted" else "failed"
        else:
            where, stored = self._store.where(result.key), result.stored
            self._metrics.add("archiver_objects_total", how="written" if result.written else "found")
        arrived = isinstance(result, Arrived)
        self._context.receipt(
            arriving.receipt(
                self._context.group,
                outcome,
                code,
                where=where,
                alg=DEFAULT_ALGORITHM if arrived else None,
                hash=arriving.sha256 if arrived else None,
                size=arriving.cursor.next if arrived else None,
                etag=stored.etag if stored else None,
                version=stored.version if stored else None,
            )
        )
        if outcome == "failed":
            log.warning("file failed", code=code, item=arriving.first.item)

    def _forget(self, arriving: Arriving) -> None:
        item = arriving.first.item
        del self._files[item]
        self._claims.release(item)
        arriving.drop()

    def _make_room(self) -> None:
        """Move the largest waiting parts to the spool, until half of their share of the memory is free."""
        goal = self.memory.limit // 4
        for arriving in sorted(self._files.values(), key=lambda each: each.in_memory, reverse=True):
            if self.memory.waiting <= goal:
                return
            arriving.spill(self._spool)

    def connect(self) -> None:
        """Get all clients of the object store ready, which is done when the first large file comes otherwise."""
        try:
            self._store.connect()
        except Exception as error:  # noqa: BLE001 - the first request that needs the client says so again
            log.warning("the object store's client is not ready", error=type(error).__name__)

    def _report_store(self) -> None:
        problem = self._patience.problem
        if problem is not None:
            self._context.pause(list(self._partitions), PAUSE_SECONDS, str(problem))
            if not self._unwell:
                log.warning("the object store is unwell; its partitions are paused", problem=str(problem))
        elif self._unwell:
            log.info("the object store is well again")
        self._unwell = problem is not None
        self._metrics.set("archiver_store_unwell", float(self._unwell))
        self._metrics.set("archiver_buffer_bytes", self.memory.used)
        self._metrics.set("archiver_spool_bytes", self._spool.used)


def service(settings: ArchiverSettings, host: Host) -> Archiver:
    """The archiver as its settings say."""
    return Archiver(settings, host.metrics, partial(host.again, settings))
