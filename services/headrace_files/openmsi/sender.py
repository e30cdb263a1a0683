"""Sends files as OpenMSIStream does, for its readers: an engine in place of `sending.sender`, for the same owners.

    jobs → reader threads (hash, then send) → one idempotent producer → delivery thread → record → outcomes

Each of their chunks bears the hash of the whole file, so a file of several chunks is read twice. Their topic has no
announcement, so what was sent is recorded on a topic of ours. A sender that is killed sends the file again from its
beginning, which their readers take for what they have already. Source: reference filestream 2.1, 2.2, 2.5.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import confluent_kafka
import msgspec
import structlog

from headrace import keys
from headrace.chunks.frames import check_chunk_size
from headrace.codec import avro
from headrace.errors import HeadraceError
from headrace.events import FileEvent
from headrace.kafka.clients import Cluster
from headrace.keys import encode_key, partition_of
from headrace.stage import kill
from headrace_files.openmsi import layout
from headrace_files.openmsi.layout import Chunk
from headrace_files.openmsi.topics import SENT, foreign, see_that_it_exists
from headrace_files.sending.budget import Budget, Closed
from headrace_files.sending.engine import Abroad
from headrace_files.sending.errors import NotOnTheLog, SenderBroken
from headrace_files.sending.jobs import Job, Outcome, Result
from headrace_files.sending.limits import largest_messages
from headrace_files.sending.reader import fill
from headrace_files.sending.sender import LAST_WAIT, MOST_BYTES_UNDER_WAY, PATIENCE, Options
from headrace_files.sending.snapshot import NotRegular, OutsideRoot, Snapshot, open_file

LARGEST_BATCH = 1024 * 1024

log = structlog.get_logger(__name__)


class Passage:
    """One version of a file on its way, in `total` chunks. The delivery thread alone counts."""

    def __init__(self, job: Job, snapshot: Snapshot, chunk: int, total: int) -> None:
        self.job = job
        self.snapshot = snapshot
        self.chunk = chunk
        self.total = total
        self.hash = b""
        self.acked = 0
        self.chunks_acked = 0


class OpenmsiSender:
    """Sends files and reports each one's end to `listener`, which must return at once.

    Raises NoForeignTopic, MissingTopic, KafkaUnreachable, or WrongChunkSize on creation.
    """

    def __init__(self, cluster: Cluster, options: Options, listener: Callable[[Outcome], None], abroad: Abroad) -> None:
        self.cluster = cluster
        self.options = options
        self.active: dict[int, Passage] = {}
        self.bytes_acknowledged = 0
        self.interrupted = threading.Event()
        self._listener = listener
        self._elements = abroad.elements
        topic = foreign(abroad.topic)
        see_that_it_exists(cluster, topic)
        largest = largest_messages(cluster, (topic, SENT))
        check_chunk_size(options.chunk, largest[topic.name])
        self._topic = topic.name
        self._sent = cluster.topic_name(SENT)
        self._budget = Budget(MOST_BYTES_UNDER_WAY, options.most_messages)
        self._producer = cluster.producer(
            {
                "batch.size": min(LARGEST_BATCH, *largest.values()),
                "queue.buffering.max.messages": 10 * options.most_messages + 100_000,
                "error_cb": self._kafka_error,
            }
        )
        self._sent_partitions = cluster.partitions(SENT, self._producer)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._arrived: deque[Passage] = deque()
        self._unfinished = 0
        self._idle = threading.Condition()
        self._failure: HeadraceError | None = None
        self._stopping = False
        self._given_up = False
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

    def stop(self, seconds: float | None) -> None:
        """End: jobs that wait are given back as interrupted, those begun have `seconds` to finish; None: no hurry."""
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                self._end(Outcome(job, Result.INTERRUPTED))
        for _ in self._threads:
            self._jobs.put(None)
        with self._idle:
            self._idle.wait_for(lambda: self._unfinished == 0 or self._failure is not None, seconds)
            if self._unfinished:
                self.interrupted.set()
                self._idle.wait_for(lambda: self._unfinished == 0 or self._failure is not None, LAST_WAIT)
        self._stopping = True
        self._budget.close()
        self._delivery.join(LAST_WAIT)
        if self._delivery.is_alive():
            log.warning("kafka does not answer; what is under way will be sent again", messages=len(self._producer))
            self._given_up = True
            self._producer.purge()
        self.check()
        self._producer.close()

    def abandon(self, previous: FileEvent, reason: str) -> FileEvent:
        """Nothing is left open on the log: a version is recorded when all of it is there, and not before."""
        return msgspec.structs.replace(previous, state="aborted", reason=reason)

    # --- reader threads ---

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            try:
                self._send(job)
            except Closed:
                return
            except Exception as error:
                log.exception("reader ended")
                self._fail(SenderBroken(problem=type(error).__name__))
                return

    def _send(self, job: Job) -> None:
        try:
            handle = open_file(job.location, job.root)
        except (FileNotFoundError, NotADirectoryError):
            self._end(Outcome(job, Result.VANISHED, reason="vanished"))
            return
        except (NotRegular, OutsideRoot) as error:
            self._end(Outcome(job, Result.SKIPPED, reason=error.strerror))
            return
        except OSError as error:
            self._end(Outcome(job, Result.UNREADABLE, reason=error.strerror))
            return
        try:
            snapshot = Snapshot.of(os.fstat(handle), inodes=self.options.inodes)
            if job.mark is not None and snapshot.mark != job.mark:
                self._end(Outcome(job, Result.CHANGED, snapshot, reason="changed"))
            elif (problem := _inexpressible(job.path, snapshot.size)) is not None:
                self._end(Outcome(job, Result.SKIPPED, snapshot, reason=problem))
            else:
                self._send_chunks(job, snapshot, handle)
        except OSError as error:
            self._end(Outcome(job, Result.UNREADABLE, reason=error.strerror))
        finally:
            os.close(handle)

    def _send_chunks(self, job: Job, snapshot: Snapshot, handle: int) -> None:
        pieces = layout.chunks_of(snapshot.size, self.options.chunk)
        passage = Passage(job, snapshot, self.options.chunk, len(pieces))
        view = memoryview(bytearray(self.options.chunk))
        passage.hash = self._hash(handle, view)
        self.active[id(passage)] = passage
        again = hashlib.sha512(usedforsecurity=False)
        os.lseek(handle, 0, os.SEEK_SET)
        for number, (offset, length) in enumerate(pieces, start=1):
            if self.interrupted.is_set():
                self._leave(passage, Result.INTERRUPTED, None)
                return
            if fill(handle, view[:length]) < length:
                self._leave(passage, Result.CHANGED, "changed")
                return
            data = bytes(view[:length])
            again.update(data)
            if number == len(pieces) and not self._unchanged(handle, passage, again.digest()):
                # The last chunk is not sent: nobody will take the rest for a whole file.
                self._leave(passage, Result.CHANGED, "changed")
                return
            mtime = snapshot.mtime_ns / 1e9
            self._produce(passage, Chunk(job.path, passage.hash, offset, number, len(pieces), data, mtime))
            kill.point("openmsi_sender.between-chunks")

    def _hash(self, handle: int, view: memoryview) -> bytes:
        digest = hashlib.sha512(usedforsecurity=False)
        while count := fill(handle, view):
            digest.update(view[:count])
        return digest.digest()

    def _unchanged(self, handle: int, passage: Passage, digest: bytes) -> bool:
        after = Snapshot.of(os.fstat(handle), inodes=self.options.inodes)
        return digest == passage.hash and after.same_content(passage.snapshot)

    def _produce(self, passage: Passage, chunk: Chunk) -> None:
        size = len(chunk.data)
        value, key = layout.encode(chunk, elements=self._elements), layout.encode_key(chunk)

        def report(error: Any, message: Any) -> None:
            self._budget.give(size)
            if error is not None:
                self._refused(error, message)
                return
            self.bytes_acknowledged += size
            passage.acked += size
            passage.chunks_acked += 1
            if passage.chunks_acked == passage.total:
                self._arrived.append(passage)

        self.cluster.room.wait(self._budget.check)
        self._budget.take(size)
        while True:
            try:
                self._producer.produce(self._topic, value, key, on_delivery=report)
            except BufferError:
                if self._failure is not None:
                    raise Closed from None
                time.sleep(0.005)
            else:
                return

    def _leave(self, passage: Passage, result: Result, reason: str | None) -> None:
        self.active.pop(id(passage), None)
        self._end(Outcome(passage.job, result, passage.snapshot, reason=reason))

    # --- delivery thread ---

    def _deliver(self) -> None:
        try:
            while not self._stopping or len(self._producer) or self._arrived:
                self._producer.poll(0 if self._arrived else PATIENCE)
                while self._arrived:
                    self._record(self._arrived[0])
                    self._arrived.popleft()
                if self._failure is not None:
                    return
        except Exception as error:
            log.exception("delivery ended")
            self._fail(SenderBroken(problem=type(error).__name__))

    def _record(self, passage: Passage) -> None:
        """All chunks are on the log: remember it, so that no later run sends the version again."""
        kill.point("openmsi_sender.after-chunks-before-record")
        job, snapshot, source = passage.job, passage.snapshot, self.options.source
        path_id = keys.path_id(source, job.path)
        partition = partition_of(path_id.hex(), self._sent_partitions)
        event = FileEvent(
            path_id=path_id, file=snapshot.file_id(source, job.path, job.attempt), source=source, path=job.path,
            state="announced", attempt=job.attempt, inode=snapshot.inode, mtime_ns=snapshot.mtime_ns,
            ctime_ns=snapshot.ctime_ns, size=snapshot.size, acked=snapshot.size, alg="sha512", hash=passage.hash,
            partition=partition, at=time.time_ns() // 1000,
        )  # fmt: skip

        def report(error: Any, message: Any) -> None:
            if error is not None:
                self._refused(error, message)
                return
            self.active.pop(id(passage), None)
            self._end(Outcome(job, Result.ANNOUNCED, snapshot, event))

        key = encode_key((path_id.hex(), event.file.hex()))
        while True:
            try:
                self._producer.produce(self._sent, avro.encode(event), key, partition=partition, on_delivery=report)
            except BufferError:
                self._producer.poll(PATIENCE)
            else:
                return

    def _end(self, outcome: Outcome) -> None:
        self._listener(outcome)
        with self._idle:
            self._unfinished -= 1
            if self._unfinished == 0:
                self._idle.notify_all()

    def _refused(self, error: Any, message: Any) -> None:
        if not self._given_up:
            self._fail(NotOnTheLog(topic=message.topic() if message is not None else "?", problem=error.str()))

    def _kafka_error(self, error: confluent_kafka.KafkaError) -> None:
        if error.fatal():
            self._fail(NotOnTheLog(topic=self._topic, problem=error.str()))
        else:
            log.warning("kafka is unwell", problem=error.str())

    def _fail(self, error: HeadraceError) -> None:
        if self._failure is None:
            self._failure = error
        self._budget.close()
        with self._idle:
            self._idle.notify_all()


def _inexpressible(path: bytes, size: int) -> str | None:
    """Why their layout cannot carry a file, if so."""
    if size == 0:
        return "it is empty, which OpenMSIStream cannot send"
    try:
        path.decode()
    except UnicodeDecodeError:
        return "its name is no UTF-8, which OpenMSIStream cannot send"
    return None
