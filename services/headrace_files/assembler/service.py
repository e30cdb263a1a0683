"""The assembler's wiring: frames in, files and receipts out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import structlog

from headrace import topics
from headrace.chunks.frames import Close, Data, Open, Whole
from headrace.errors import PermanentError, TransientError
from headrace.events import Outcome
from headrace.stage.arrivals import Silence, WrongKey, identify
from headrace.stage.contract import Context, Message, Partition, Stage
from headrace_files.assembler.building import Building, Partials
from headrace_files.assembler.paths import parts
from headrace_files.assembler.settings import AssemblerSettings
from headrace_files.assembler.settling import LeaseLost, Settled, Settler
from headrace_files.assembler.tree import Tree

if TYPE_CHECKING:
    from headrace.families import Host

log = structlog.get_logger(__name__)

CLEAN_EVERY = 3600.0
DRAIN_SECONDS = 5.0


class DiskBehind(TransientError):
    """The disk is behind: {waiting} files wait to be synced; trying again in {retry_after} s."""

    code = "disk-behind"
    default_retry_after = 0.02
    steady = True


class Assembler(Stage):
    """Rebuilds files from chunks in one folder tree."""

    name: ClassVar[str] = "assembler"
    reads: ClassVar[Sequence[topics.Topic]] = (topics.CHUNKS,)
    writes: ClassVar[Sequence[topics.Topic]] = (topics.UPLOAD_ACKS, topics.DEAD_LETTERS)

    def __init__(self, settings: AssemblerSettings, device: int | None = None) -> None:
        """Open the tree; see `Tree` for `device`."""
        self._settings = settings
        self._tree = Tree(settings.root, device)
        self._partials = Partials(self._tree)
        self._files: dict[str, Building] = {}
        self._settling: dict[str, Building] = {}
        self._silence = Silence(settings.incomplete_after.total_seconds())
        self._next_cleaning = 0.0
        self._acting = False

    @property
    def device(self) -> int:
        """The file system that the tree is on."""
        return self._tree.device

    def setup(self, context: Context) -> None:
        """Start the thread that makes files durable."""
        self._context = context
        self._settler = Settler(self._tree, context.may_act, restore_mode=self._settings.restore_mode)

    def handle(self, batch: Sequence[Message]) -> None:
        """Write the bytes of each frame in their place, and pass on files that are finished."""
        if self._settler.full:
            raise DiskBehind(waiting=len(self._settling))
        self._acting = self._context.may_act()
        for message in batch:
            self._silence.met(message)
            if not self._context.done(message):
                self._frame(message)

    def put_aside(self, message: Message) -> None:
        """Forget the file of a frame that could not be handled."""
        settling = self._settling.get(message.item)
        if settling is not None and settling.takes(message):
            del self._settling[message.item]
            self._settler.cancel([settling])
        building = self._files.get(message.item)
        if building is not None and building.takes(message):
            self._forget(building)

    def flush(self) -> None:
        """Hand over receipts of what the settling thread has finished."""
        for settled in self._settler.collect():
            if self._settling.pop(settled.building.item, None) is settled.building:
                self._close(settled)

    def tick(self, now: float) -> None:
        """Close files that no frame came of for too long; delete what processes that died have left behind."""
        self._silence.look(self._context.caught_up)
        for building in self._silence.overdue(self._files.values(), self._context):
            self._fail(building, "incomplete")
        if now >= self._next_cleaning:
            self._next_cleaning = now + CLEAN_EVERY
            self._clean(now)

    def revoked(self, partitions: Sequence[Partition], lost: bool) -> None:
        """Forget the files of these partitions. Their bytes stay: the next owner writes the same ones."""
        if not lost and any(building.first.partition in partitions for building in self._settling.values()):
            # Short, since everybody's rebalance waits: what is not durable by then is done again by the next owner.
            self._settler.drain(min(DRAIN_SECONDS, 0.5))
            self.flush()
        gone = [
            building
            for building in (*self._files.values(), *self._settling.values())
            if building.first.partition in partitions
        ]
        self._settler.cancel(gone)
        for building in gone:
            self._partials.forget(building.item)
            self._files.pop(building.item, None)
            self._settling.pop(building.item, None)
        self._silence.forget(partitions)

    def close(self) -> None:
        """Stop the settling thread and close all files."""
        self._settler.close()
        self._partials.close()
        self._tree.close()

    def _frame(self, message: Message) -> None:
        frame = message.value
        settling = self._settling.get(message.item)
        if settling is not None and settling.takes(message):
            # Sent again while it is being made durable: as good as what is here, so its receipt covers this too.
            settling.touch(message)
            return
        building = self._files.get(message.item)
        if isinstance(frame, Open | Whole):
            if building is not None:
                if not building.takes(message):
                    raise WrongKey(problem="its file id is that of another path")
                building.touch(message)
            else:
                self._begin(message, frame)
            return
        if building is None or not building.takes(message):
            self._context.orphan(message)
            return
        building.touch(message)
        if isinstance(frame, Data):
            # It slept in the middle of the batch, and another may have finished the file: it would get a new mtime.
            if self._acting and not self._context.may_act():
                raise LeaseLost
            self._partials.write(building, frame)
        elif isinstance(frame, Close):
            if frame.abort is not None:
                self._abandon(building, frame.abort)
                return
            building.close = frame
        self._progress(building)

    def _begin(self, message: Message, frame: Open | Whole) -> None:
        file = identify(message, frame)
        path = frame.path if self._settings.layout == "{path}" else frame.source.encode() + b"/" + frame.path
        try:
            name = parts(
                path,
                longest_name=self._tree.longest_name,
                allow_devices=self._settings.device_names == "allow",
            )
        except PermanentError as error:
            self._context.dead_letter(message, error)
            return
        building = Building(message, frame, name, file)
        self._context.open(message.item, message)
        if isinstance(frame, Whole):
            self._settle(building)
        else:
            self._files[building.item] = building

    def _progress(self, building: Building) -> None:
        close = building.close
        if close is None:
            return
        if building.complete:
            del self._files[building.item]
            self._partials.forget(building.item)
            self._settle(building)
        elif building.ranges.size > (close.size or 0) or self._context.damaged(building.item):
            self._fail(building, "damaged" if self._context.damaged(building.item) else "hash-mismatch")

    def _settle(self, building: Building) -> None:
        self._settling[building.item] = building
        self._settler.submit(building, self._context.newest(building.first.partition, building.first.path))

    def _close(self, settled: Settled) -> None:
        building = settled.building
        if isinstance(settled.error, PermanentError) and settled.error.code != "hash-mismatch":
            self._context.dead_letter(building.first, settled.error)
            return
        outcome: Outcome = "unchanged" if settled.superseded else "delivered"
        code = "superseded" if settled.superseded else None
        if settled.error is not None:
            outcome, code = "failed", settled.error.code
        self._context.receipt(
            building.receipt(
                self._context.group, outcome, code,
                where=settled.where, alg=settled.alg, hash=settled.hash, size=settled.size,
            )
        )  # fmt: skip
        # At debug: a line for each of thousands of small files a second would cost more than the files.
        log.debug("file settled", outcome=outcome, code=code, item=building.item)

    def _abandon(self, building: Building, reason: str) -> None:
        """Its sender gave the version up; another one follows, or none."""
        self._forget(building)
        self._context.receipt(building.receipt(self._context.group, "unchanged", "aborted"))
        log.info("file aborted by its sender", item=building.item, reason=reason[:100])

    def _fail(self, building: Building, code: str) -> None:
        self._forget(building)
        self._context.receipt(building.receipt(self._context.group, "failed", code))
        log.warning("file failed", code=code, item=building.item)

    def _forget(self, building: Building) -> None:
        self._files.pop(building.item, None)
        self._partials.forget(building.item)
        try:
            self._tree.remove_partial(building.item)
        except TransientError as error:
            log.info("a partial file stays until the next cleaning", item=building.item, problem=str(error))

    def _clean(self, now: float) -> None:
        grace = 1.5 * self._settings.incomplete_after.total_seconds()
        for item in self._tree.stale_partials(now - grace):
            if item not in self._files and item not in self._settling:
                log.info("deleting a partial file that a dead process left behind", item=item)
                self._tree.remove_partial(item)


def service(settings: AssemblerSettings, host: Host) -> Assembler:
    """The assembler as its settings say.

    Raises NoTree, or RootGone if it comes in the place of another and that one's file system is not there.
    """
    return Assembler(settings, host.before.device if isinstance(host.before, Assembler) else None)
