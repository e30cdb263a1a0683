"""From a raw Kafka message to what a stage sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from headrace import deadletter
from headrace.chunks import frames
from headrace.chunks.frames import Frame
from headrace.codec import avro
from headrace.codec.records import RecordDecoder, decode_record
from headrace.events import Event
from headrace.kafka.raw import RawMessage
from headrace.keys import Key, decode_key
from headrace.stage.contract import Message, Partition
from headrace.topics import Topic


class Decoder:
    """Decodes messages of the topics that a stage reads; `topics` is by name on the wire."""

    def __init__(self, topics: Mapping[str, Topic], group: str) -> None:
        self._topics = topics
        self._group = group.encode()
        self._partitions: dict[tuple[str, int], Partition] = {}
        self._values = {name: _decoder(topic) for name, topic in topics.items()}

    def partition(self, raw: RawMessage) -> Partition:
        """Where the message comes from, by catalogue name."""
        place = (raw.topic(), raw.partition())
        found = self._partitions.get(place)
        if found is None:
            found = self._partitions[place] = Partition(self._topics[place[0]].name, place[1])
        return found

    def decode(self, raw: RawMessage, partition: Partition | None = None) -> Message | None:
        """The message with its key and value decoded.

        None if it is not for this group: re-driven for another one, or it only takes back an older one of its key.

        Parameters:
            partition: where it comes from, if that was asked before.

        Raises PoisonError if that cannot be done.
        """
        name = raw.topic()
        topic, value, headers = self._topics[name], raw.value(), raw.headers()
        if value is None and "compact" in topic.cleanup:
            return None
        if headers and any(each == deadletter.REDRIVE_FOR and of != self._group for each, of in headers):
            return None
        partition, offset, raw_key = partition or self.partition(raw), raw.offset(), raw.key()
        if topic.framing == "foreign":
            key: Key = (f"{topic.name}:{partition.number}:{offset}",)
        else:
            key = decode_key(raw_key)
        item = key[-1] if topic.item == "key" else f"{topic.name}:{partition.number}:{offset}"
        value = value or b""
        return Message(
            partition, offset, raw.timestamp()[1], key, key[0], item, self._values[name](value), value, raw_key,
            headers or (),
        )  # fmt: skip


def _decoder(topic: Topic) -> Callable[[bytes], Frame | Event | bytes]:
    if topic.framing == "records":
        return RecordDecoder(topic.schemas).decode
    return partial(decode_value, topic)


def decode_value(topic: Topic, value: bytes) -> Frame | Event | bytes:
    """The event or frame in the value of a message of `topic`; of a foreign topic, the value.

    Raises PoisonError if there is none in it.
    """
    if topic.framing == "foreign":
        return value
    if topic.framing == "records":
        return decode_record(value, topic.schemas)
    return avro.decode_one_of(value, topic.values) if topic.values else frames.decode(value)


def file_of(key: Key) -> bytes | None:
    """The file id that a key of the chunks topic ends with; None for other keys."""
    try:
        found = bytes.fromhex(key[-1])
    except ValueError:
        return None
    return found if len(found) == 16 else None
