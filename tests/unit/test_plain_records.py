"""The short way to read a record of plain strings says what fastavro says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.codec.avro import MalformedEvent
from headrace.codec.records import Record, RecordDecoder, decode_record, texts
from headrace.datasets.catalogue import Datasets
from headrace.datasets.encoding import prefix, string, zigzag


@given(st.lists(st.one_of(st.text(max_size=80), st.text("aß€", min_size=60, max_size=9_000)), max_size=6))
def test_texts_come_back_as_they_were(values: list[str]) -> None:
    assert texts(b"".join(map(string, values))) == values


@pytest.mark.parametrize(
    "body", [b"\x01", b"\x04a", b"\x80", b"\x03ab", b"\x02\xff", b"\x81\x01a", b"\xff" * 12, b"\x83\x00"]
)
def test_what_is_no_text_is_told(body: bytes) -> None:
    with pytest.raises(MalformedEvent):
        texts(body)


@given(st.binary(max_size=40))
def test_any_bytes_are_texts_or_told_of(body: bytes) -> None:
    try:
        values = texts(body)
    except MalformedEvent:
        return
    assert sum(len(value.encode()) + 1 for value in values) <= len(body)


@pytest.mark.parametrize("line", [-1, 1 << 48, 1 << 62])
def test_a_line_that_no_file_has_is_told(line: int) -> None:
    dataset = Datasets()["art_students"]
    raw = prefix(dataset.header, None, bytes(16)) + zigzag(line) + string("x")
    with pytest.raises(MalformedEvent):
        decode_record(raw, dataset.topic.schemas)


@given(
    st.lists(st.tuples(st.sampled_from([None, "one", "two"]), st.integers(0, 1), st.integers(0, 1 << 40)), max_size=8)
)
def test_records_of_several_files_in_turn_are_told_apart(records: list[tuple[str | None, int, int]]) -> None:
    dataset = Datasets()["art_students"]
    decoder = RecordDecoder(dataset.topic.schemas)
    for job, file, line in records:
        raw = prefix(dataset.header, job, bytes([file]) * 16) + zigzag(line) + string("x")
        assert decoder.decode(raw) == Record(
            job=job, file=bytes([file]) * 16, line=line, body=string("x"), schema=dataset.fingerprint
        )
