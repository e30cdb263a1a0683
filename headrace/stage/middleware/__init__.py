"""What surrounds a stage, one concern a file. Hooks do nothing unless a middleware wants them.

Before-hooks are called in order, after-hooks in reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from headrace.errors import HeadraceError
from headrace.events import UploadAck
from headrace.stage.contract import Message, Partition

if TYPE_CHECKING:
    from headrace.stage.offsets import Mark, Track


class Middleware:
    """Sees what happens around a stage. Called from the loop's thread; must not block."""

    def before_handle(self, batch: Sequence[Message]) -> None:
        """A batch is about to be handled."""

    def after_handle(self, batch: Sequence[Message], error: Exception | None) -> None:
        """A batch was handled, or raised `error`."""

    def after_receipt(self, ack: UploadAck) -> None:
        """A receipt is on the log."""

    def after_dead_letter(self, message_partition: Partition, error: HeadraceError) -> None:
        """A message was put aside."""

    def after_orphan(self, partition: Partition) -> None:
        """A message was skipped since its item is not open."""

    def after_assign(self, partitions: Sequence[Partition]) -> None:
        """Partitions are ours."""

    def after_revoke(self, partitions: Sequence[Partition], lost: bool) -> None:
        """Partitions are ours no longer."""

    def after_pause(self, partitions: Sequence[Partition], seconds: float, reason: str) -> None:
        """Nothing will be fetched from `partitions` for a while."""

    def after_resume(self, partitions: Sequence[Partition]) -> None:
        """Fetching goes on."""

    def after_commit(self, marks: dict[Partition, Mark]) -> None:
        """The coordinator has taken these marks."""

    def every_second(self, tracks: Sequence[Track], lag: Callable[[Track], int | None]) -> None:
        """Look at where each partition stands; `lag` gives messages behind the end, None while unknown."""
