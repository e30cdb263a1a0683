"""Whatever stands on a topic is decoded to a correct value or refused with a clear error; nothing crashes."""

from __future__ import annotations

import io
import json
import random

import fastavro
import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.chunks import frames
from headrace.chunks.frames import MalformedFrame, WrongChunkSize
from headrace.chunks.ranges import Ranges
from headrace.codec import avro
from headrace.errors import PoisonError
from headrace.events import Covers, Event, FileEvent, UploadAck
from headrace.resources import resource

SAMPLES: list[frames.Frame] = [
    frames.Open(v=1, source="lab", path=b"a/\xff", chunk=4096, mtime_ns=5, attempt=0, size=3, meta={"x": "y"}),
    frames.Data(v=1, i=0, off=0, b=memoryview(b"abc")),
    frames.Close(v=1, n=1, size=3, alg="sha256", hash=b"h" * 32),
    frames.Close(v=1, abort="changed"),
    frames.Whole(
        v=1, source="lab", path=b"a", chunk=4096, mtime_ns=5, attempt=0, alg="sha256", hash=b"h", b=memoryview(b"")
    ),
]
EVENTS: list[Event] = [
    UploadAck(
        group="g", item="i", partition=1, first=3, last=4, covers=[Covers(outcome="delivered")], at=5, file=b"f" * 16
    ),
    FileEvent(
        path_id=b"p" * 16, file=b"f" * 16, source="lab", path=b"a\xff", state="sending", attempt=0, mtime_ns=5,
        partition=2, at=7,
    ),
]  # fmt: skip


@pytest.mark.parametrize("frame", SAMPLES, ids=lambda frame: type(frame).__name__)
def test_a_frame_is_a_plain_msgpack_map_and_comes_back(frame: frames.Frame) -> None:
    raw = frames.encode(frame)
    plain = msgpack.unpackb(raw)
    assert plain["v"] == 1
    assert plain["k"] == type(frame).__name__.lower()
    assert frames.encode(frames.decode(raw)) == raw
    assert frames.encode(frames.decode(msgpack.packb(plain | {"future": [1, {"x": None}]}))) == raw


@pytest.mark.parametrize("frame", SAMPLES, ids=lambda frame: type(frame).__name__)
def test_a_missing_or_mistyped_field_is_poison(frame: frames.Frame) -> None:
    plain = msgpack.unpackb(frames.encode(frame))
    for name in plain:
        required = name in ("v", "k", "source", "path", "chunk", "mtime_ns", "attempt", "i", "off", "b") or (
            name in ("alg", "hash") and plain["k"] == "whole"
        )
        if required:
            with pytest.raises(MalformedFrame):
                frames.decode(msgpack.packb({key: value for key, value in plain.items() if key != name}))
        with pytest.raises(MalformedFrame):
            frames.decode(msgpack.packb(plain | {name: [object] and [1.5]}))


def test_a_close_frame_proves_or_aborts() -> None:
    for fields in ({}, {"n": 1, "size": 1, "alg": "sha256"}, {"n": 1, "size": 1, "alg": "md5", "hash": b""}):
        with pytest.raises(MalformedFrame):
            frames.decode(msgpack.packb({"v": 1, "k": "close", **fields}))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_poison(raw: bytes) -> None:
    try:
        frames.decode(raw)
    except PoisonError:
        pass


@given(st.integers(0, len(SAMPLES) - 1), st.integers(0, 2**32), st.integers(1, 4))
def test_a_damaged_real_frame_is_a_frame_or_poison(which: int, seed: int, damages: int) -> None:
    choose = random.Random(seed)
    raw = bytearray(frames.encode(SAMPLES[which]))
    for _ in range(damages):
        raw[choose.randrange(len(raw))] = choose.randrange(256)
    try:
        frames.decode(bytes(raw))
    except PoisonError:
        pass


SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20))
def test_any_msgpack_value_is_a_frame_or_poison(value: object) -> None:
    try:
        frames.decode(msgpack.packb(value))
    except PoisonError:
        pass


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_comes_back(event: Event) -> None:
    assert avro.decode(avro.encode(event), type(event)) == event


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_cut_short_or_with_something_behind_it_is_poison(event: Event) -> None:
    raw = avro.encode(event)
    for length in range(len(raw)):
        with pytest.raises(PoisonError):
            avro.decode(raw[:length], type(event))
    with pytest.raises(PoisonError):
        avro.decode(raw + b"\0", type(event))


@given(st.sampled_from(EVENTS), st.integers(0, 2**32), st.integers(1, 6))
def test_a_damaged_event_is_an_event_or_poison(event: Event, seed: int, damages: int) -> None:
    choose = random.Random(seed)
    raw = bytearray(avro.encode(event))
    for _ in range(damages):
        raw[choose.randrange(len(raw))] = choose.randrange(256)
    try:
        avro.decode(bytes(raw), type(event))
    except PoisonError:
        pass


@given(st.binary(max_size=100))
def test_any_bytes_are_an_event_or_poison(raw: bytes) -> None:
    for prefix in (b"", avro.MARKER, avro.encode(EVENTS[0])[:10]):
        try:
            avro.decode(prefix + raw, UploadAck)
        except PoisonError:
            pass


def test_an_unknown_schema_says_so() -> None:
    with pytest.raises(avro.UnknownSchema):
        avro.decode(avro.MARKER + b"\1" * 8 + b"body", UploadAck)


def test_an_event_that_was_written_before_events_named_topics_is_one_of_chunks() -> None:
    event = next(each for each in EVENTS if isinstance(each, FileEvent))
    older = json.loads(resource("schemas", "history", "FileEvent.1.avsc").read_text("utf-8"))
    out = io.BytesIO(avro.MARKER + avro.schema_fingerprint(older))
    out.seek(avro.HEADER_BYTES)
    fastavro.schemaless_writer(out, older, msgspec.to_builtins(event, builtin_types=(bytes,)))
    assert avro.decode(out.getvalue(), FileEvent) == msgspec.structs.replace(event, topic=None)


def test_the_fingerprint_is_that_of_the_avro_specification() -> None:
    # Avro 1.12, share/test/data/schema-tests.txt: the fingerprint of "null" is 0x63dd24e7cc258f8a.
    assert avro.schema_fingerprint("null") == (0x63DD24E7CC258F8A).to_bytes(8, "little")


def test_chunk_sizes_are_powers_of_two_that_the_topic_takes() -> None:
    assert frames.check_chunk_size(262_144, 2_162_688) == 262_144
    assert frames.check_chunk_size(2_097_152, 2_162_688) == 2_097_152
    for size in (0, -4096, 3000, 2048, 300_000):
        with pytest.raises(WrongChunkSize):
            frames.check_chunk_size(size, 2_162_688)
    with pytest.raises(WrongChunkSize, match="524288"):
        frames.check_chunk_size(1_048_576, 1_048_588)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=40))
def test_ranges_know_exactly_the_bytes_that_came(pieces: list[tuple[int, int]]) -> None:
    ranges, truth = Ranges(), set[int]()
    for start, length in pieces:
        new = set(range(start, start + length)) - truth
        missing = ranges.missing(start, start + length)
        assert [byte for first, end in missing for byte in range(first, end)] == sorted(new)
        assert ranges.add(start, start + length) == len(new)
        truth |= new
    assert ranges.size == len(truth)
    contiguous = next(byte for byte in range(100) if byte not in truth)
    assert ranges.contiguous() == contiguous
    assert ranges.whole(len(truth)) == (truth == set(range(len(truth))))
