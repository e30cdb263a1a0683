"""What the receipts of a part say, whatever its lines are."""

from __future__ import annotations

import pytest
from pyroaring import BitMap64

from headrace.events import UploadAck
from headrace.stage.contract import Message, Partition
from headrace_art.accounting import LINES_OF_A_RECEIPT, FilePart


class Context:
    """Keeps receipts."""

    group = "g"

    def __init__(self) -> None:
        self.receipts: list[UploadAck] = []

    def open(self, item: str, first: Message) -> None:
        del item, first

    def receipt(self, ack: UploadAck) -> None:
        self.receipts.append(ack)


@pytest.mark.parametrize("lines", [[1, 5], [1, LINES_OF_A_RECEIPT, 3 * LINES_OF_A_RECEIPT], [7, (1 << 62) + 1]])
def test_each_line_is_told_once_however_far_apart_they_are(lines: list[int]) -> None:
    first = Message(Partition("records", 0), 3, 0, ("k",), "k", "i", b"", b"", b"k")
    part = FilePart(bytes(16), None, first, 3)
    for number, line in enumerate(lines):
        part.settle(line, "delivered" if number % 2 else "unchanged")
    context = Context()
    part.hand_over(context)  # type: ignore[arg-type]
    told = [line for ack in context.receipts for each in ack.covers for line in BitMap64.deserialize(each.lines or b"")]
    assert sorted(told) == lines
    assert context.receipts[-1].item == part.item
