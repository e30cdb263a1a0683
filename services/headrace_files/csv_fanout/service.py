"""The fan-out's wiring: frames in, records, end markers and receipts out."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import msgspec
import structlog

from headrace import topics
from headrace.chunks.frames import Close, Data, Open, Whole
from headrace.datasets.catalogue import Dataset, Datasets
from headrace.datasets.errors import UnknownDataset
from headrace.errors import PermanentError
from headrace.events import Outcome
from headrace.kafka.clients import Cluster
from headrace.observe.metrics import MetricEntry, Metrics
from headrace.stage.arrivals import Arrival, Silence, WrongKey, identify
from headrace.stage.contract import Context, Message, Partition, Stage
from headrace.stage.heartbeat import Heartbeat
from headrace_files.csv_fanout.arriving import Arriving
from headrace_files.csv_fanout.publishing import HashMismatch, Published, Publisher
from headrace_files.csv_fanout.settings import CsvFanoutSettings
from headrace_files.csv_fanout.spool import Spool
from headrace_files.csv_fanout.worker import Superseded, Worker

if TYPE_CHECKING:
    from headrace.families import Host

METRICS = (
    MetricEntry("fanout_rows_total", "counter", "Rows of published files.", ("dataset", "outcome")),
    MetricEntry("fanout_files_total", "counter", "Files that came to their end.", ("dataset", "outcome")),
    MetricEntry("fanout_spool_bytes", "gauge", "Bytes of files on their way."),
    MetricEntry("fanout_waiting", "gauge", "Complete files that are published or wait for it."),
)
"""What only the fan-out has."""

NOT_OURS = "no-dataset"
"""Code of the receipt of a file that belongs to no dataset, or to one that this fan-out does not publish."""

log = structlog.get_logger(__name__)


class UndeclaredDataset(PermanentError):
    """The file names a dataset that is not declared here. See which (`headrace dlq show`), declare it, then replay."""

    code = "undeclared-dataset"


class CsvFanout(Stage):
    """Turns files of declared datasets into records."""

    name: ClassVar[str] = "csv_fanout"
    reads: ClassVar[Sequence[topics.Topic]] = (topics.CHUNKS, topics.CHUNKS_PERSONAL)
    writes: ClassVar[Sequence[topics.Topic]] = (topics.UPLOAD_ACKS, topics.DEAD_LETTERS, topics.JOBS)

    def __init__(
        self, settings: CsvFanoutSettings, cluster: Cluster, datasets: Datasets, metrics: Metrics | None = None
    ) -> None:
        for name in (*settings.datasets, *settings.paths):
            datasets.named(name)
        self._settings = settings
        self._cluster = cluster
        self._datasets = datasets
        self._wanted = frozenset(settings.datasets or datasets)
        self._paths = [(name, re.compile(pattern)) for name, pattern in settings.paths.items()]
        self._metrics = metrics
        self._spool = Spool(settings.spool, settings.spool_size)
        self._files: dict[str, Arriving] = {}
        self._publishing: dict[str, Arriving] = {}
        self._silence = Silence(settings.incomplete_after.total_seconds())
        self._stopping = threading.Event()

    def setup(self, context: Context) -> None:
        """Start the thread that publishes."""
        self._context = context
        publisher = Publisher(
            self._cluster,
            context.group,
            self.name,
            context.may_act,
            self._stopping.is_set,
            allow_shrink=self._settings.allow_shrink,
            limit=self._settings.largest_content,
        )
        self._worker = Worker(publisher)
        self._heartbeat = Heartbeat(context, self.name)

    def handle(self, batch: Sequence[Message]) -> None:
        """Spool the bytes of files of our datasets, and pass on those that are complete."""
        for message in batch:
            self._silence.met(message)
            if not self._context.done(message):
                self._frame(message)

    def put_aside(self, message: Message) -> None:
        """Forget the file of a frame that could not be handled."""
        for files in (self._files, self._publishing):
            arriving = files.get(message.item)
            if arriving is not None and arriving.takes(message):
                self._drop(arriving, files)

    def flush(self) -> None:
        """Hand over receipts of what the worker has finished."""
        for arriving, result in self._worker.collect():
            if self._publishing.get(arriving.item) is arriving:
                del self._publishing[arriving.item]
                if result is not None:
                    self._settle(arriving, result)
            arriving.forget()

    def tick(self, now: float) -> None:  # noqa: ARG002 - log time counts here
        """Close files that no frame came of for too long."""
        self._silence.look(self._context.caught_up)
        for arriving in self._silence.overdue(self._files.values(), self._context):
            self._end(arriving, "failed", "incomplete")
        for arriving in (*self._files.values(), *self._publishing.values()):
            self._tell(arriving)
        if self._metrics is not None:
            self._metrics.set("fanout_spool_bytes", self._spool.used)
            self._metrics.set("fanout_waiting", len(self._publishing))

    def revoked(self, partitions: Sequence[Partition], lost: bool) -> None:  # noqa: ARG002 - nothing is deleted
        """Forget the files of these partitions: their new owner begins them again."""
        for files in (self._files, self._publishing):
            for arriving in list(files.values()):
                if arriving.first.partition in partitions:
                    self._drop(arriving, files)
        self._silence.forget(partitions)

    def close(self) -> None:
        """Stop the worker and let go of all files."""
        self._stopping.set()
        self._worker.close()
        for arriving in (*self._files.values(), *self._publishing.values()):
            arriving.forget()

    def _frame(self, message: Message) -> None:
        frame = message.value
        known = self._publishing.get(message.item) or self._files.get(message.item)
        if isinstance(frame, Open | Whole):
            if known is None:
                self._begin(message, frame)
            elif known.takes(message):
                known.touch(message)
            else:
                raise WrongKey(problem="its file id is that of another path")
            return
        # Most frames are of files that were passed by, so one of no open file is no orphan to be counted.
        if known is None or not known.takes(message):
            return
        known.touch(message)
        if message.item in self._publishing:
            # Sent again: as good as what is here, so its receipt covers this too.
            return
        if isinstance(frame, Data):
            try:
                known.add(frame)
            except PermanentError as error:
                self._refuse(known, error)
                return
        elif isinstance(frame, Close):
            if frame.abort is not None:
                self._end(known, "unchanged", "aborted")
                return
            known.close = frame
        self._progress(known)

    def _begin(self, message: Message, frame: Open | Whole) -> None:
        file = identify(message, frame)
        name = frame.dataset or self._by_path(frame.path)
        if name is None or (name not in self._wanted and (self._settings.datasets or name in self._datasets)):
            self._pass_by(message, frame, file)
            return
        # What a full spool holds of this partition's files can only come free if their frames are read on.
        anyway = any(each.first.partition == message.partition for each in self._files.values())
        arriving = Arriving(message, frame, file, self._dataset(name), self._spool, anyway=anyway)
        self._context.open(message.item, message)
        self._files[message.item] = arriving
        self._progress(arriving)

    def _pass_by(self, message: Message, frame: Open | Whole, file: bytes) -> None:
        """A file that is none of our business has its receipt at once, or the books of no file would ever balance."""
        self._context.open(message.item, message)
        self._context.receipt(Arrival(message, frame, file).receipt(self._context.group, "unchanged", NOT_OURS))

    def _by_path(self, path: bytes) -> str | None:
        if not self._paths:
            return None
        text = path.decode("utf-8", "replace")
        return next((name for name, pattern in self._paths if pattern.search(text)), None)

    def _dataset(self, name: str) -> Dataset:
        try:
            return self._datasets.named(name)
        except UnknownDataset as error:
            raise UndeclaredDataset from error

    def _progress(self, arriving: Arriving) -> None:
        if arriving.complete:
            del self._files[arriving.item]
            self._publishing[arriving.item] = arriving
            self._worker.submit(arriving, self._context.newest(arriving.first.partition, arriving.first.path))
        elif arriving.close is not None and self._context.damaged(arriving.item):
            self._end(arriving, "failed", "damaged")
        elif arriving.too_much:
            self._end(arriving, "failed", HashMismatch.code)

    def _settle(self, arriving: Arriving, result: Published | Superseded | PermanentError) -> None:
        if isinstance(result, Superseded):
            self._close(arriving, "unchanged", "superseded")
        elif isinstance(result, HashMismatch):
            self._close(arriving, "failed", result.code)
        elif isinstance(result, PermanentError):
            self._refuse(arriving, result)
        else:
            self._deliver(arriving, result)

    def _deliver(self, arriving: Arriving, published: Published) -> None:
        ack = arriving.receipt(
            self._context.group, "delivered",
            where=published.where, alg=published.alg, hash=published.hash, size=arriving.size,
        )  # fmt: skip
        self._tell(arriving, last=True)
        self._context.receipt(msgspec.structs.replace(ack, covers=published.covers))
        self._count(arriving, "delivered")
        if self._metrics is not None:
            name = arriving.dataset.name
            self._metrics.add("fanout_rows_total", published.good, dataset=name, outcome="delivered")
            self._metrics.add("fanout_rows_total", published.bad, dataset=name, outcome="dead_lettered")
        log.info(
            "file published",
            dataset=arriving.dataset.name,
            item=arriving.item,
            records=published.good,
            dead_letters=published.bad,
        )

    def _tell(self, arriving: Arriving, *, last: bool = False) -> None:
        """How far a file is, for those who wait for its job."""
        name = arriving.dataset.name
        self._heartbeat.tell(arriving.frame.job, arriving.item, arriving.figures, name, last=last)

    def _refuse(self, arriving: Arriving, error: PermanentError) -> None:
        """Nothing of it is published; its first frame stands among the dead letters for it."""
        self._files.pop(arriving.item, None)
        self._context.dead_letter(arriving.first, error)
        arriving.forget()
        self._count(arriving, "dead_lettered")
        log.warning("file refused", dataset=arriving.dataset.name, item=arriving.item, code=error.code, why=str(error))

    def _end(self, arriving: Arriving, outcome: Outcome, code: str) -> None:
        del self._files[arriving.item]
        arriving.forget()
        self._close(arriving, outcome, code)

    def _close(self, arriving: Arriving, outcome: Outcome, code: str) -> None:
        self._context.receipt(arriving.receipt(self._context.group, outcome, code))
        self._count(arriving, outcome)
        if outcome == "failed":
            log.warning("file failed", code=code, item=arriving.item)

    def _drop(self, arriving: Arriving, files: dict[str, Arriving]) -> None:
        """Nothing more is said of it; what the worker has in hand it lets go of by itself."""
        arriving.cancelled = True
        del files[arriving.item]
        self._heartbeat.forget(arriving.frame.job, arriving.item)
        if files is self._files:
            arriving.forget()

    def _count(self, arriving: Arriving, outcome: Outcome) -> None:
        if self._metrics is not None:
            self._metrics.add("fanout_files_total", dataset=arriving.dataset.name, outcome=outcome)


def service(settings: CsvFanoutSettings, host: Host) -> CsvFanout:
    """The fan-out as its settings say.

    Raises UnknownDataset, DatasetMalformed, NoSpool.
    """
    datasets = Datasets(host.settings.datasets.folder)
    return CsvFanout(settings, host.cluster, datasets, host.metrics)
