"""Finished files become durable under their names, many in one round, in a thread of their own.

A round: write the small ones, verify all, one sync for their contents, rename one by one, one sync for the folders.
Before each rename stands the zombie guard: a process that was paused past its session must not rename.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from headrace.chunks.frames import Whole, new_hash
from headrace.errors import HeadraceError, PermanentError, TransientError
from headrace.stage import kill
from headrace.stage.contract import Version
from headrace_files.assembler.building import Building
from headrace_files.assembler.tree import Tree

ROUND_FILES = 1000
ROUND_BYTES = 64 * 1024 * 1024
GUARD_SECONDS = 0.05
VERSIONS_REMEMBERED = 50_000


class HashMismatch(PermanentError):
    """The rebuilt file does not have the hash that its sender computed; it is asked for again."""

    code = "hash-mismatch"


class LeaseLost(TransientError):
    """This process was silent for so long that its partitions may belong to another; it asks before it goes on."""

    code = "lease-lost"
    default_retry_after = 0.1
    steady = True


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a file: delivered at `where` (a file URI) with `hash`, superseded, or failed with `error`."""

    building: Building
    where: str | None = None
    alg: str | None = None
    hash: bytes | None = None
    size: int | None = None
    superseded: bool = False
    error: HeadraceError | None = None


class Settler:
    """Takes finished files and gives back what became of them, in order.

    Parameters:
        may_act: the zombie guard; asked from the worker.
        restore_mode: whether permission bits are set as at the source.
    """

    def __init__(self, tree: Tree, may_act: Callable[[], bool], *, restore_mode: bool) -> None:
        self._tree = tree
        self._may_act = may_act
        self._restore_mode = restore_mode
        self._condition = threading.Condition()
        self._naming = threading.Lock()
        self._waiting: deque[tuple[Building, Version | None]] = deque()
        self._settled: deque[Settled] = deque()
        self._latest: OrderedDict[bytes, Version] = OrderedDict()
        self._trouble: TransientError | None = None
        self._failure: BaseException | None = None
        self._stopping = False
        self._bytes = 0
        self._batch: list[tuple[Building, Version | None]] = []
        self._worker = threading.Thread(target=self._work, name="settler", daemon=True)
        self._worker.start()

    def submit(self, building: Building, newest: Version | None) -> None:
        """Hand over a finished file; `newest` is the version of its path that was delivered last, as far as known."""
        with self._condition:
            self._waiting.append((building, newest))
            self._bytes += _weight(building)
            self._condition.notify()

    @property
    def full(self) -> bool:
        """Whether so much is waiting that no more should be read."""
        return self._bytes > 2 * ROUND_BYTES or len(self._waiting) > 4 * ROUND_FILES

    def collect(self) -> list[Settled]:
        """What was settled since the last call.

        Raises the TransientError of a round that failed, once; the round is tried again when `collect` is called next.
        """
        with self._condition:
            settled = list(self._settled)
            self._settled.clear()
            if settled:
                return settled
            if self._failure is not None:
                raise self._failure
            trouble, self._trouble = self._trouble, None
            self._condition.notify()
        if trouble is not None:
            raise trouble
        return []

    def cancel(self, buildings: Sequence[Building]) -> None:
        """From now on none of these gets its name from this process."""
        with self._naming:
            for building in buildings:
                building.cancelled = True

    def close(self) -> None:
        """Stop after the file that is being named."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._worker.join(5.0)

    def drain(self, seconds: float) -> None:
        """Wait until nothing is waiting, or something went wrong, for up to `seconds`."""
        with self._condition:
            self._condition.wait_for(lambda: not self._bytes_waiting() or self._trouble is not None, seconds)

    def _may_go_on(self) -> bool:
        return self._stopping or (self._trouble is None and bool(self._batch or self._waiting))

    def _bytes_waiting(self) -> bool:
        return bool(self._waiting) or self._bytes > 0

    def _work(self) -> None:
        batch = self._batch
        while True:
            with self._condition:
                # After trouble nothing is tried until the loop has heard of it and comes back.
                self._condition.wait_for(self._may_go_on)
                if self._stopping:
                    return
                size = sum(_weight(building) for building, _ in batch)
                while self._waiting and len(batch) < ROUND_FILES and size < ROUND_BYTES:
                    batch.append(self._waiting.popleft())
                    size += _weight(batch[-1][0])
            try:
                settled = self._round(batch)
            except TransientError as error:
                with self._condition:
                    self._trouble = error
                    self._condition.notify_all()
                continue
            except BaseException as error:  # noqa: BLE001 - the loop raises it
                with self._condition:
                    self._failure = error
                    self._condition.notify_all()
                return
            batch.clear()
            with self._condition:
                self._settled.extend(settled)
                self._bytes -= size
                self._condition.notify_all()

    def _round(self, batch: Sequence[tuple[Building, Version | None]]) -> list[Settled]:
        self._tree.look()
        results: dict[int, Settled] = {}
        ready: list[tuple[int, Building, Version | None, Settled]] = []
        handles: list[int] = []
        try:
            for index, (building, newest) in enumerate(batch):
                if building.cancelled:
                    continue
                if not self._may_act_again(building):
                    continue
                verified = self._verify(building)
                if building.named:
                    ready.append((index, building, newest, verified))
                    continue
                if verified.error is not None:
                    self._tree.remove_partial(building.item)
                    results[index] = verified
                    continue
                handles.append(self._finish(building))
                ready.append((index, building, newest, verified))
            self._tree.sync(handles)
        finally:
            for handle in handles:
                os.close(handle)
        kill.point("assembler.between-fsync-and-rename")
        folders = set()
        for index, building, newest, verified in ready:
            outcome = self._name(building, newest, verified)
            if outcome is None:
                continue
            results[index] = outcome
            if outcome.where is not None:
                folders.add(building.name[:-1])
        self._tree.sync_folders(folders)
        kill.point("assembler.after-rename-before-receipt")
        return [results[index] for index in sorted(results)]

    def _verify(self, building: Building) -> Settled:
        """Write a small file; compare the hash of any."""
        frame = building.frame
        if isinstance(frame, Whole):
            running = new_hash(frame.alg)
            running.update(frame.b)
            digest, size, wanted, alg = running.digest(), len(frame.b), frame.hash, frame.alg
            if frame.size is not None and frame.size != size:
                return Settled(building, error=HashMismatch())
        else:
            close = building.close
            if close is None or close.hash is None or close.alg is None:
                raise ValueError("only finished files are settled")
            size, wanted, alg = building.ranges.size, close.hash, close.alg
            digest = wanted if building.named else building.digest(self._tree)
        if digest != wanted:
            return Settled(building, error=HashMismatch())
        where = "file://" + quote(self._tree.location(building.name))
        return Settled(building, where=where, alg=alg, hash=digest, size=size)

    def _finish(self, building: Building) -> int:
        """The descriptor of a partial file that has its content, length, time and mode."""
        frame = building.frame
        # An empty file that came as open and close frames has no bytes that would have made its partial file.
        if isinstance(frame, Whole) or not building.ranges.size:
            handle = self._tree.open_partial(building.item)
        else:
            handle = self._tree.open_finished(building.item, building.ranges.size)
        try:
            if isinstance(frame, Whole):
                written = 0
                while written < len(frame.b):
                    written += os.pwrite(handle, frame.b[written:], written)
            if self._restore_mode and frame.mode is not None:
                os.fchmod(handle, frame.mode & 0o777)
            os.utime(handle, ns=(frame.mtime_ns, frame.mtime_ns))
        except OSError as error:
            os.close(handle)
            raise self._tree.failure(error) from error
        return handle

    def _may_act_again(self, building: Building) -> bool:
        """Wait until the zombie guard lets us; False if the file is no longer ours to touch."""
        while not self._may_act():
            if building.cancelled or self._stopping:
                return False
            time.sleep(GUARD_SECONDS)
        return True

    def _name(self, building: Building, newest: Version | None, verified: Settled) -> Settled | None:
        """Rename, unless a newer version has the name, or the partition was taken away."""
        if building.named:
            return verified
        if not self._may_act_again(building):
            return None
        path = building.first.key[0].encode()
        with self._naming:
            if building.cancelled:
                return None
            if not self._may_act():
                raise LeaseLost
            known = self._latest.get(path)
            if known is None or (newest is not None and newest.newer_than(known)):
                known = newest
            if known is not None and known.newer_than(building.version):
                self._tree.remove_partial(building.item)
                return Settled(building, superseded=True)
            try:
                self._tree.place(building.item, building.name)
            except PermanentError as error:
                self._tree.remove_partial(building.item)
                return Settled(building, error=error)
            building.named = True
            self._latest[path] = building.version
            self._latest.move_to_end(path)
            if len(self._latest) > VERSIONS_REMEMBERED:
                self._latest.popitem(last=False)
        return verified


def _weight(building: Building) -> int:
    """Bytes of memory that a waiting file holds."""
    return 512 + (len(building.frame.b) if isinstance(building.frame, Whole) else 0)
