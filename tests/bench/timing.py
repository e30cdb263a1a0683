"""Measures a stage from its first batch to its last receipt."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from headrace.events import UploadAck
from headrace.stage.contract import Message
from headrace.stage.middleware import Middleware


class Timer(Middleware):
    """`done` is set when `items` receipts are on the log; then `seconds` says how long that took."""

    def __init__(self, items: int) -> None:
        self._items = items
        self._first = 0.0
        self.seconds = 0.0
        self.done = threading.Event()

    def before_handle(self, batch: Sequence[Message]) -> None:
        self._first = self._first or time.perf_counter()

    def after_receipt(self, ack: UploadAck) -> None:
        self._items -= 1
        if not self._items:
            self.seconds = time.perf_counter() - self._first
            self.done.set()
