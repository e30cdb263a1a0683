"""From a raw Kafka message to what a stage sees."""

from __future__ import annotations

from collections.abc import Mapping

from headrace import deadletter
from headrace.chunks import frames
from headrace.chunks.frames import Frame
from headrace.codec import avro
from headrace.codec.records import decode_record
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

    def partition(self, raw: RawMessage) -> Partition:
        """Where the message comes from, by catalogue name."""
        place = (raw.topic(), raw.partition())
        found = self._partitions.get(place)
        if found is None:
            found = self._partitions[place] = Partition(self._topics[place[0]].name, place[1])
        return found

    def not_for_us(self, raw: RawMessage) -> bool:
        """Whether the message was re-driven for another group, or only takes back an older one of the same key."""
        if raw.value() is None and "compact" in self._topics[raw.topic()].cleanup:
            return True
        headers = raw.headers()
        return bool(headers) and any(
            name == deadletter.REDRIVE_FOR and value != self._group for name, value in headers or ()
        )

    def decode(self, raw: RawMessage, partition: Partition | None = None) -> Message:
        """The message with its key and value decoded.

        Parameters:
            partition: where it comes from, if that was asked before.

        Raises PoisonError if that cannot be done.
        """
        topic = self._topics[raw.topic()]
        value = raw.value() or b""
        partition, offset = partition or self.partition(raw), raw.offset()
        coordinates = f"{topic.name}:{partition.number}:{offset}"
        key = (coordinates,) if topic.framing == "foreign" else decode_key(raw.key())
        item = key[-1] if topic.item == "key" else coordinates
        return Message(
            partition=partition,
            offset=offset,
            time=raw.timestamp()[1],
            key=key,
            path=key[0],
            item=item,
            value=decode_value(topic, value),
            raw=value,
            raw_key=raw.key(),
            headers=raw.headers() or (),
        )


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
