"""The bytes of one version of a file, taken from the log as long as they are kept there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from headrace.chunks import frames
from headrace.chunks.frames import Close, Data, Open, Whole
from headrace.chunks.ranges import Ranges
from headrace.errors import ConfigError, PoisonError
from headrace.events import FileEvent
from headrace.kafka.clients import Cluster
from headrace.kafka.reading import read_now
from headrace.keys import decode_key
from headrace.topics import CHUNK_TOPICS, CHUNKS

READ_BYTES = 1024 * 1024


class BytesGone(ConfigError):
    """The bytes of {path} are not all on the log any more, where they are kept for a time. Give the file itself."""

    code = "bytes-gone"


def copy_out(cluster: Cluster, event: FileEvent, out: Path) -> Mapping[str, str]:
    """Write the file that was announced to `out`, which must be there, and return its frames' `meta`.

    Raises BytesGone, KafkaUnreachable, MissingTopic or TopicRefused.
    """
    meta: Mapping[str, str] = {}
    close: Close | None = None
    ranges = Ranges()
    topic = CHUNK_TOPICS[event.topic or CHUNKS.name]
    first, last = event.first or 0, event.last or 0
    item = event.file.hex()
    with out.open("r+b") as file:
        for batch in read_now(cluster, topic, starts={event.partition: first}, ends={event.partition: last + 1}):
            for message in batch:
                try:
                    if decode_key(message.key())[-1] != item:
                        continue
                    frame = frames.decode(message.value() or b"")
                except PoisonError:
                    continue
                if isinstance(frame, Open | Whole):
                    meta = frame.meta
                if isinstance(frame, Whole):
                    close = Close(v=1, n=1, size=len(frame.b), alg=frame.alg, hash=frame.hash)
                    frame = Data(1, 0, 0, frame.b)
                if isinstance(frame, Data):
                    file.seek(frame.off)
                    file.write(frame.b)
                    ranges.add(frame.off, frame.off + len(frame.b))
                elif isinstance(frame, Close) and frame.abort is None:
                    close = frame
        whole = close is not None and close.size is not None and ranges.whole(close.size)
        if close is None or not whole or _digest(file, close.alg) != close.hash:
            raise BytesGone(path=event.path.decode("utf-8", "backslashreplace"))
    return meta


def _digest(file: BinaryIO, algorithm: str | None) -> bytes:
    running = frames.new_hash(algorithm or frames.DEFAULT_ALGORITHM)
    file.seek(0)
    while block := file.read(READ_BYTES):
        running.update(block)
    return running.digest()
