"""The engine: files in, frames and events out, with memory and repetition bounded.

    jobs → reader threads (read once, hash, frame) → one idempotent producer → delivery thread → events → outcomes

A reader works on one file at a time, so the frames of a version are in order on the log. The delivery thread alone
counts what is acknowledged and speaks on `headrace.files`. Source: design sections 3 and 4.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import confluent_kafka
import msgspec
import structlog

from headrace.chunks import frames
from headrace.chunks.frames import DEFAULT_CHUNK, check_chunk_size
from headrace.codec import avro
from headrace.errors import HeadraceError, TransientError
from headrace.events import FileEvent
from headrace.kafka.clients import Cluster
from headrace.keys import encode_key, partition_of
from headrace.stage import kill
from headrace.topics import CHUNK_TOPICS, CHUNKS, FILES, Topic
from headrace_files.sending import reader
from headrace_files.sending.budget import Budget, Closed
from headrace_files.sending.engine import Abroad
from headrace_files.sending.errors import NotOnTheLog, SenderBroken
from headrace_files.sending.jobs import Job, Outcome, Result
from headrace_files.sending.limits import largest_messages
from headrace_files.sending.transfer import Transfer

MEBIBYTE = 1024 * 1024
# Under way and not yet told on the log together bound what a killed sender repeats: 24 + 16 MiB, of 64 allowed.
MOST_BYTES_UNDER_WAY = 24 * MEBIBYTE
PROGRESS_BYTES = 16 * MEBIBYTE
LARGEST_BATCH = 4 * MEBIBYTE
LAST_WAIT = 2.0  # seconds for each of: acknowledgements after the deadline, the producer's end
PATIENCE = 0.1  # seconds that the delivery thread waits for a report

Headers = list[tuple[str, str | bytes | None]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """How to send.

    Parameters:
        source: name of the sender on the log; one process at a time uses it.
        chunk: bytes of a data frame, a power of two.
        threads: files read in parallel.
        most_messages: messages under way to the broker.
        inodes: whether the inode tells versions apart.
        meta: what receivers are told of every file besides.
        topic: of ours, for the frames: that of the dataset.
        abroad: the topic of somebody else's to send to, in another layout; None: our own. This engine knows no other.
    """

    source: str
    chunk: int = DEFAULT_CHUNK
    threads: int = 3
    most_messages: int = 3000
    dataset: str | None = None
    job: str | None = None
    inodes: bool = True
    topic: Topic = CHUNKS
    abroad: Abroad | None = None
    meta: Mapping[str, str] = field(default_factory=dict)


class Sender:
    """Sends files and reports each one's end to `listener`, which must return at once.

    Raises MissingTopic, KafkaUnreachable, or WrongChunkSize on creation; a message that is refused for good ends
    everything: `check` raises it.
    """

    def __init__(self, cluster: Cluster, options: Options, listener: Callable[[Outcome], None]) -> None:
        self.cluster = cluster
        self.options = options
        self.source = options.source
        self.topic = options.topic
        self.dataset = options.dataset
        self.job = options.job
        self.meta = dict(options.meta)
        # All files in progress share the allowance.
        self.progress_bytes = max(PROGRESS_BYTES // options.threads, options.chunk)
        self.budget = Budget(MOST_BYTES_UNDER_WAY, options.most_messages)
        self.interrupted = threading.Event()
        self.active: dict[int, Transfer] = {}
        self.bytes_acknowledged = 0
        self._listener = listener
        largest = largest_messages(cluster, (self.topic, FILES))
        check_chunk_size(options.chunk, largest[self.topic.name])
        self._producer = cluster.producer(
            {
                # The broker's limit is for a whole batch, and one producer serves both topics.
                "batch.size": min(LARGEST_BATCH, *largest.values()),
                "queue.buffering.max.messages": 10 * options.most_messages + 100_000,
                "error_cb": self._kafka_error,
            }
        )
        self._chunks = cluster.topic_name(self.topic)
        self._files = cluster.topic_name(FILES)
        self.chunk_partitions = cluster.partitions(self.topic, self._producer)
        self._file_partitions = cluster.partitions(FILES, self._producer)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._errands: deque[Callable[[], None]] = deque()
        self._events: deque[tuple[Transfer, FileEvent, bool]] = deque()
        self._unfinished = 0
        self._idle = threading.Condition()
        self._failure: HeadraceError | None = None
        self._stopping = False
        self._given_up = False
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"reader-{number}", daemon=True)
            for number in range(options.threads)
        ]
        self._delivery = threading.Thread(target=self._deliver, name="delivery", daemon=True)
        for thread in (self._delivery, *self._threads):
            thread.start()

    # --- for the owner ---

    def submit(self, job: Job) -> None:
        """Send this file when a reader is free."""
        with self._idle:
            self._unfinished += 1
        self._jobs.put(job)

    @property
    def unfinished(self) -> int:
        """Jobs without an outcome."""
        return self._unfinished

    def check(self) -> None:
        """Raise what ended the sender, if something did."""
        if self._failure is not None:
            raise self._failure

    def wait(self, seconds: float) -> bool:
        """Wait until every job has its outcome; whether that is so. Raises what ended the sender."""
        with self._idle:
            self._idle.wait_for(lambda: self._unfinished == 0 or self._failure is not None, seconds)
        self.check()
        return self._unfinished == 0

    def stop(self, seconds: float | None) -> None:
        """End: jobs that wait are given back as interrupted, those begun have `seconds` to finish.

        What is still in the middle then stops at a frame, and its progress goes onto the log. None: no hurry.
        """
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                self.end(Outcome(job, Result.INTERRUPTED))
        for _ in self._threads:
            self._jobs.put(None)
        deadline = None if seconds is None else time.monotonic() + seconds
        while self._unfinished and self._failure is None:
            if deadline is not None and time.monotonic() >= deadline:
                self.interrupted.set()
                break
            with self._idle:
                self._idle.wait(0.1)
        if self.interrupted.is_set():
            with self._idle:
                self._idle.wait_for(lambda: self._unfinished == 0 or self._failure is not None, LAST_WAIT)
        self._stopping = True
        self._ended.set()
        self.budget.close()
        self._delivery.join(LAST_WAIT)
        if self._delivery.is_alive():
            # Nobody answers. What is not acknowledged is sent again by the next process.
            log.warning("kafka does not answer; what is under way will be sent again", messages=len(self._producer))
            self._given_up = True
            self._producer.purge()
        self.check()
        self._producer.close()

    # --- for readers ---

    def produce(self, transfer: Transfer, frame: frames.Frame, report: Callable[[Any, Any], None], size: int) -> None:
        """Hand a frame over, waiting for room. Raises Closed when the sender ends."""
        value = frames.encode(frame)
        headers = None if isinstance(frame, frames.Data) else _headers(transfer.trace, self.job)
        self.cluster.room.wait(self.budget.check)
        self.budget.take(size)
        while True:
            try:
                if headers is None:
                    self._producer.produce(
                        self._chunks, value, transfer.key, partition=transfer.partition, on_delivery=report
                    )
                else:
                    self._producer.produce(
                        self._chunks,
                        value,
                        transfer.key,
                        partition=transfer.partition,
                        on_delivery=report,
                        headers=headers,
                    )
                return
            except BufferError:
                self._nap()

    def begin(self, transfer: Transfer) -> None:
        """Say on the log that a version is under way, before its first frame: nobody forgets it after a crash."""
        self.active[id(transfer)] = transfer
        while True:
            try:
                self._put_event(transfer.say("sending"), transfer.key, transfer.trace, self._only_errors)
                return
            except BufferError:
                self._nap()

    def abandon(self, previous: FileEvent, reason: str, *, wait: bool = False) -> FileEvent:
        """Close a version that will never be finished, on both topics, in this order; the last word on it.

        Parameters:
            wait: return when the word is handed over, so that what is said of the path next follows it. Not for the
                delivery thread. Raises Closed when the sender ends.
        """
        said = threading.Event()
        key = encode_key((previous.path_id.hex(), previous.file.hex()))
        gone = msgspec.structs.replace(previous, state="aborted", reason=reason, at=time.time_ns() // 1000)
        trace = f"00-{previous.file.hex()}-{previous.path_id.hex()[:16]}-01"
        value = frames.encode(frames.Close(v=1, abort=reason))

        def closed(error: Any, message: Any) -> None:
            self.budget.give(0)
            if error is not None:
                self.refused(error, message)
                return
            last = msgspec.structs.replace(gone, last=message.offset())

            def speak() -> None:
                self._put_event(last, key, trace, self._only_errors)
                said.set()

            self._errands.append(speak)

        self.budget.take(0)
        # Where its frames are; it may have been begun before its dataset was said to be personal.
        topic = CHUNK_TOPICS[previous.topic or CHUNKS.name]
        partition = partition_of(previous.path_id.hex(), self.cluster.partitions(topic, self._producer))
        self._producer.produce(
            self.cluster.topic_name(topic),
            value,
            key,
            partition=partition,
            on_delivery=closed,
            headers=_headers(trace, previous.job),
        )
        while wait and not said.wait(PATIENCE):
            self.budget.check()
        return gone

    def later(self, errand: Callable[[], None]) -> None:
        """Do something in the delivery thread."""
        self._errands.append(errand)

    def end(self, outcome: Outcome) -> None:
        """A job has its outcome."""
        self._listener(outcome)
        with self._idle:
            self._unfinished -= 1
            if self._unfinished == 0:
                self._idle.notify_all()

    # --- for transfers: the delivery thread ---

    def refused(self, error: Any, message: Any) -> None:
        """A message is lost for good: nothing that follows can be trusted."""
        if self._given_up:
            return
        self._fail(NotOnTheLog(topic=message.topic() if message is not None else "?", problem=error.str()))

    def say(self, transfer: Transfer, event: FileEvent, *, last_word: bool) -> None:
        """Put an event on the log; after the last word the transfer is finished."""
        self._events.append((transfer, event, last_word))

    def finished(self, transfer: Transfer) -> None:
        """Nothing more will come of this version."""
        self.active.pop(id(transfer), None)
        self.end(Outcome(transfer.job, transfer.result, transfer.snapshot, transfer.event, transfer.reason))

    # --- threads ---

    def _work(self) -> None:
        scratch = bytearray()
        while True:
            job = self._jobs.get()
            if job is None:
                return
            try:
                scratch = self._insist(job, scratch)
            except Closed:
                return
            except HeadraceError as error:
                self._fail(error)
                return
            except Exception as error:
                log.exception("reader ended")
                self._fail(SenderBroken(problem=type(error).__name__))
                return

    def _insist(self, job: Job, scratch: bytearray) -> bytearray:
        while True:
            try:
                return reader.send(self, job, scratch)
            except TransientError as error:
                # Nothing of this job is on its way yet: what may fail so is reading an open frame back.
                log.warning("waiting for Kafka", problem=str(error))
                self._ended.wait(error.retry_after)
                self.budget.check()

    def _deliver(self) -> None:
        try:
            while not self._stopping or len(self._producer) or self._events or self._errands:
                self._producer.poll(0 if self._events or self._errands else PATIENCE)
                self._speak()
                if self._failure is not None:
                    return
        except Exception as error:
            log.exception("delivery ended")
            self._fail(SenderBroken(problem=type(error).__name__))

    def _speak(self) -> None:
        try:
            while self._errands:
                self._errands[0]()
                self._errands.popleft()
            while self._events:
                transfer, event, last_word = self._events[0]
                if last_word and event.state == "announced":
                    kill.point("sender.after-last-frame-before-announce")
                report = transfer.spoken if last_word else self._only_errors
                self._put_event(event, transfer.key, transfer.trace, report)
                self._events.popleft()
                if event.state == "sending":
                    kill.point("sender.after-progress-event")
        except BufferError:
            self._producer.poll(PATIENCE)

    def _put_event(self, event: FileEvent, key: bytes, trace: str, report: Callable[[Any, Any], None]) -> None:
        self._producer.produce(
            self._files,
            avro.encode(event),
            key,
            partition=partition_of(event.path_id.hex(), self._file_partitions),
            on_delivery=report,
            headers=_headers(trace, event.job),
        )

    def _only_errors(self, error: Any, message: Any) -> None:
        if error is not None:
            self.refused(error, message)

    def _kafka_error(self, error: confluent_kafka.KafkaError) -> None:
        if error.fatal():
            self._fail(NotOnTheLog(topic=self._chunks, problem=error.str()))
        else:
            log.warning("kafka is unwell", problem=error.str())

    def _nap(self) -> None:
        """The producer's own queue is full: the delivery thread makes room."""
        if self._failure is not None:
            raise Closed
        time.sleep(0.005)

    def _fail(self, error: HeadraceError) -> None:
        if self._failure is None:
            self._failure = error
        self._ended.set()
        self.budget.close()
        with self._idle:
            self._idle.notify_all()


def _headers(trace: str, job: str | None) -> Headers:
    """What stands on frames that open or close, and on events. An abandoned version may be of an earlier job."""
    return [("traceparent", trace.encode()), *([("hr-job", job.encode())] if job else [])]
