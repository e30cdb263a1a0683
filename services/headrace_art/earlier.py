"""What this group's receipts have said of a file's part before: looked up where the log alone does not tell.

A fan-out that was killed publishes its file again. The part may have had its receipt in the middle of that: then what
follows is a repeat, of which only some lines come, or no end. Source: design section 3, "Records".
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import structlog

from headrace.codec import avro
from headrace.errors import HeadraceError
from headrace.events import Covers, UploadAck
from headrace.kafka.clients import Cluster
from headrace.kafka.reading import read_now
from headrace.keys import decode_key
from headrace.topics import UPLOAD_ACKS
from headrace_art.accounting import FilePart

QUIET_SECONDS = 60.0
"""A part of which nothing comes for so long, and no end, is looked up."""

log = structlog.get_logger(__name__)


class Earlier:
    """Looks into the receipts of a group in a thread of its own.

    Parameters:
        group: our consumer group, by which its receipts are known.
    """

    def __init__(self, cluster: Cluster, group: str) -> None:
        self._cluster, self._group = cluster, group
        self._thread = ThreadPoolExecutor(1, "earlier")

    def known(self, part: FilePart) -> bool:
        """Whether it is known by now what was said of the part before; it is merged then. Asks the first time."""
        if part.earlier is None:
            part.earlier = self._thread.submit(self._look, part.item, part.first.partition.number)
        if not part.earlier.done():
            return False
        if not part.before:
            try:
                part.merge(part.earlier.result())
            except HeadraceError as error:
                log.warning("earlier receipts are not read yet, trying again", problem=str(error))
                part.earlier = None
                return False
        return True

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _look(self, item: str, number: int) -> list[Covers]:
        """The covers of the part's last receipt, and of the pieces of it that have names of their own."""
        found: dict[str, list[Covers]] = {}
        mark = item.partition("/")[0].encode()
        for batch in read_now(self._cluster, UPLOAD_ACKS, starts={number: 0}):
            for message in batch:
                raw = message.key() or b""
                # To look into the key is far cheaper than to decode what others have said.
                if mark not in raw or not message.value():
                    continue
                key = decode_key(raw)
                if key[1:2] == (self._group,) and (key[-1] == item or key[-1].startswith(f"{item}/")):
                    found[key[-1]] = list(avro.decode(message.value() or b"", UploadAck).covers)
        return [covers for each in found.values() for covers in each]
