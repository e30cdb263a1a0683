"""Reading one file: once, hashing on the way, and noticing when it changes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from headrace import keys
from headrace.chunks import frames
from headrace.chunks.frames import DEFAULT_ALGORITHM
from headrace.keys import partition_of
from headrace.stage import kill
from headrace.stage.contract import Partition
from headrace_files.sending import resume
from headrace_files.sending.jobs import Job, Outcome, Result
from headrace_files.sending.snapshot import NotRegular, OutsideRoot, Snapshot, open_file
from headrace_files.sending.transfer import Transfer

if TYPE_CHECKING:
    from headrace_files.sending.sender import Sender

# Bytes read and hashed at once, whatever the chunk: both let go of the interpreter, and taking it back costs most.
BLOCK = 256 * 1024


def send(sender: Sender, job: Job, scratch: bytearray) -> bytearray:
    """Send the file of a job, or say why not. `scratch` is this thread's memory, given back for the next one.

    Raises Closed when the sender ends, KafkaUnreachable if an open frame had to be read back and could not.
    """
    try:
        handle = open_file(job.location, job.root)
    except (FileNotFoundError, NotADirectoryError):
        _give_up(sender, job, Result.VANISHED, "vanished")
        return scratch
    except (NotRegular, OutsideRoot) as error:
        _give_up(sender, job, Result.SKIPPED, error.strerror)
        return scratch
    except OSError as error:
        sender.end(Outcome(job, Result.UNREADABLE, reason=error.strerror))
        return scratch
    try:
        snapshot = Snapshot.of(os.fstat(handle), inodes=sender.options.inodes)
        if job.mark is not None and snapshot.mark != job.mark:
            sender.end(Outcome(job, Result.CHANGED, snapshot, reason="changed"))
            return scratch
        path = keys.path_id(sender.source, job.path)
        partition = partition_of(path.hex(), sender.chunk_partitions)
        file = snapshot.file_id(sender.source, job.path, job.attempt, sender.topic)
        transfer = Transfer(sender, job, path, file, snapshot, partition)
        place = Partition(sender.topic.name, partition)
        start = resume.start(sender.cluster, job.previous, file, snapshot.size, place, transfer.key)
        chunk = transfer.chunk = start.chunk or sender.options.chunk
        block = max(chunk, BLOCK)
        if len(scratch) < block + 1:
            scratch = bytearray(block + 1)
        if start.abandon and job.previous is not None:
            # A crash between the two would leave a version open that the log no longer shows as the path's last.
            sender.abandon(job.previous, "changed", wait=True)
        if snapshot.size <= chunk and start.first is None:
            _send_whole(sender, transfer, handle, memoryview(scratch))
        else:
            _send_pieces(sender, transfer, handle, memoryview(scratch)[:block], start)
    finally:
        os.close(handle)
    return scratch


def _give_up(sender: Sender, job: Job, result: Result, reason: str | None) -> None:
    """The file is not there to be sent: nothing on the log, unless its beginning already is."""
    gone = None
    if job.previous is not None and job.previous.state == "sending":
        gone = sender.abandon(job.previous, reason or result.value, wait=True)
    sender.end(Outcome(job, result, event=gone, reason=reason))


def fill(handle: int, view: memoryview) -> int:
    """Read until `view` is full or the file ends; the number of bytes."""
    filled = 0
    while filled < len(view):
        count = os.readv(handle, [view[filled:]])
        if count == 0:
            break
        filled += count
    return filled


def _send_whole(sender: Sender, transfer: Transfer, handle: int, view: memoryview) -> None:
    snapshot = transfer.snapshot
    try:
        # One byte more than there should be, so that growth shows.
        size = fill(handle, view[: snapshot.size + 1])
        after = Snapshot.of(os.fstat(handle), inodes=sender.options.inodes)
    except OSError as error:
        sender.end(Outcome(transfer.job, Result.UNREADABLE, snapshot, reason=error.strerror))
        return
    if size != snapshot.size or not after.same_content(snapshot):
        sender.end(Outcome(transfer.job, Result.CHANGED, snapshot, reason="changed"))
        return
    digest = frames.new_hash()
    digest.update(view[:size])
    transfer.hash = digest.digest()
    frame = frames.Whole(
        v=1,
        source=sender.source,
        path=transfer.job.path,
        chunk=sender.options.chunk,
        mtime_ns=snapshot.mtime_ns,
        attempt=transfer.attempt,
        size=size,
        ctime_ns=snapshot.ctime_ns,
        mode=snapshot.mode,
        dataset=sender.dataset,
        job=sender.job,
        meta=sender.meta,
        alg=DEFAULT_ALGORITHM,
        hash=transfer.hash,
        b=view[:size],
    )
    sender.produce(transfer, frame, transfer.whole, size)


def _send_pieces(sender: Sender, transfer: Transfer, handle: int, view: memoryview, start: resume.Start) -> None:
    snapshot = transfer.snapshot
    chunk = transfer.chunk
    digest = frames.new_hash()
    offset = 0
    problem: str | None = None
    transfer.first = start.first
    transfer.acked = transfer.reported = start.acked
    sender.begin(transfer)
    if start.first is None:
        sender.produce(transfer, _open(sender, transfer, chunk), transfer.opened, 0)
        kill.point("sender.after-open")
    while offset < snapshot.size:
        if sender.interrupted.is_set():
            sender.later(transfer.interrupt)
            return
        try:
            size = fill(handle, view[: min(len(view), snapshot.size - offset)])
        except OSError as error:
            problem = error.strerror or type(error).__name__
            break
        if size == 0:
            problem = "changed"
            break
        digest.update(view[:size])
        for begin in range(0, size, chunk):
            piece = view[begin : min(begin + chunk, size)]
            end = offset + begin + len(piece)
            if end > start.acked:
                transfer.pending.append(end)
                frame = frames.Data(1, (offset + begin) // chunk, offset + begin, piece)
                sender.produce(transfer, frame, transfer.delivered, len(piece))
                kill.point("sender.between-frames")
        offset += size
    if problem is None:
        after = Snapshot.of(os.fstat(handle), inodes=sender.options.inodes)
        if offset != snapshot.size or not after.same_content(snapshot):
            problem = "changed"
    if problem is None:
        transfer.hash = digest.digest()
        count = -(-snapshot.size // chunk)
        close = frames.Close(v=1, n=count, size=snapshot.size, alg=DEFAULT_ALGORITHM, hash=transfer.hash)
    else:
        transfer.result = Result.CHANGED if problem == "changed" else Result.UNREADABLE
        transfer.reason = problem
        close = frames.Close(v=1, abort=problem)
    sender.produce(transfer, close, transfer.closed, 0)


def _open(sender: Sender, transfer: Transfer, chunk: int) -> frames.Open:
    snapshot = transfer.snapshot
    return frames.Open(
        v=1,
        source=sender.source,
        path=transfer.job.path,
        chunk=chunk,
        mtime_ns=snapshot.mtime_ns,
        attempt=transfer.attempt,
        size=snapshot.size,
        ctime_ns=snapshot.ctime_ns,
        mode=snapshot.mode,
        dataset=sender.dataset,
        job=sender.job,
        meta=sender.meta,
    )
