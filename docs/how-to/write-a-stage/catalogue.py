"""An example stage: writes one small JSON file for each file that a source has announced.

It shows all that a stage has to do itself: say what it reads and writes, name its effect after its input, make it
durable in `flush`, and hand over a receipt. The rest is the loop's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from headrace import receipts
from headrace.errors import PermanentError, TransientError
from headrace.events import FileEvent
from headrace.stage.contract import Context, Message, Partition, Stage
from headrace.topics import DEAD_LETTERS, FILES, UPLOAD_ACKS, Topic


class TooSecret(PermanentError):
    """Files under "secret/" are not catalogued."""

    code = "too-secret"


class NotNow(TransientError):
    """The catalogue must not be written at the moment; trying again in {retry_after} s."""

    code = "not-now"
    default_retry_after = 0.2


class Catalogue(Stage):
    """Keeps a folder of JSON files, one per announced file version."""

    name: ClassVar[str] = "catalogue"
    reads: ClassVar[Sequence[Topic]] = (FILES,)
    writes: ClassVar[Sequence[Topic]] = (UPLOAD_ACKS, DEAD_LETTERS)

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pending: dict[str, Message] = {}

    def setup(self, context: Context) -> None:
        """Keep the context; make the folder."""
        self._context = context
        self._folder.mkdir(parents=True, exist_ok=True)

    def handle(self, batch: Sequence[Message]) -> None:
        """Remember what is announced; the same message may come twice."""
        for message in batch:
            event = message.value
            if not isinstance(event, FileEvent) or event.state != "announced" or self._context.done(message):
                continue
            if event.path.startswith(b"secret/"):
                raise TooSecret
            self._context.open(message.item, message)  # the committed offset stays here until the receipt is on the log
            self._pending[message.item] = message

    def flush(self) -> None:
        """Write what is pending, then say so. The name comes from the input, so doing it twice changes nothing."""
        if self._pending and not self._context.may_act():
            raise NotNow
        for item, message in list(self._pending.items()):
            place = self._write(message)
            del self._pending[item]
            self._context.receipt(
                receipts.settle(self._context.group, message, message.offset, "delivered", where=place.as_uri())
            )

    def revoked(self, partitions: Sequence[Partition], lost: bool) -> None:  # noqa: ARG002
        """Forget what belongs to somebody else now."""
        self._pending = {item: kept for item, kept in self._pending.items() if kept.partition not in partitions}

    def _write(self, message: Message) -> Path:
        event = message.value
        if not isinstance(event, FileEvent):
            raise TypeError("only file events are pending")
        place = self._folder / f"{message.item}.json"
        partial = place.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as out:
            json.dump({"path": event.path.decode("utf-8", "backslashreplace"), "bytes": event.size}, out)
            out.flush()
            os.fsync(out.fileno())
        partial.rename(place)
        return place
