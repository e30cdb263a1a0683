"""The short way to read a record of plain strings says what fastavro says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.codec.avro import MalformedEvent
from headrace.codec.records import texts
from headrace.datasets.encoding import string


@given(st.lists(st.one_of(st.text(max_size=80), st.text("aß€", min_size=60, max_size=9_000)), max_size=6))
def test_texts_come_back_as_they_were(values: list[str]) -> None:
    assert texts(b"".join(map(string, values))) == values


@pytest.mark.parametrize("body", [b"\x01", b"\x04a", b"\x80", b"\x03ab", b"\x02\xff", b"\x81\x01a", b"\xff" * 12])
def test_what_is_no_text_is_told(body: bytes) -> None:
    with pytest.raises(MalformedEvent):
        texts(body)
