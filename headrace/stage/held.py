"""Messages that a stage could not handle yet: they wait in memory, to be given again."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from headrace.stage.contract import Message

# Pausing a partition throws away what was fetched of it, so short waits hold messages in memory instead, up to this.
LONGEST_UNPAUSED_WAIT = 0.5
HELD_UNPAUSED_BYTES = 8 * 1024 * 1024
# What a decoded message takes beside its bytes: that is most of it, where messages are small.
_MESSAGE_BYTES = 1024


@dataclass(slots=True)
class Held:
    """Messages of one partition, until a time in monotonic seconds; `size` is about the bytes that they take.

    `passed` is the offset after the last message that came meanwhile and is nothing for the stage.
    """

    until: float
    attempt: int = 0
    messages: deque[Message] = field(default_factory=deque)
    size: int = 0
    paused: bool = False
    passed: int = 0

    @classmethod
    def of(cls, batch: Sequence[Message], until: float, attempt: int) -> Held:
        """Hold a batch."""
        held = cls(until, attempt)
        for message in batch:
            held.add(message)
        return held

    def add(self, message: Message) -> None:
        """Hold one more."""
        self.messages.append(message)
        self.size += len(message.raw) + _MESSAGE_BYTES
