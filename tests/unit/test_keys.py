"""Keys find the same partition as every other client's, and ids tell versions apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.keys import MalformedKey, decode_key, encode_key, file_id, murmur2, partition_of, path_id


@pytest.mark.parametrize(
    ("data", "expected"),
    # Apache Kafka, clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java, as signed numbers.
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536),
     (b"a-little-bit-longer-string", -1486304829), (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
     (b"abc", 479470107)],
)  # fmt: skip
def test_murmur2_is_that_of_the_java_client(data: bytes, expected: int) -> None:
    assert murmur2(data) == expected % 2**32


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4))
def test_a_key_comes_back_as_it_was(parts: list[str]) -> None:
    assert decode_key(encode_key(tuple(parts))) == tuple(parts)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_key_or_malformed(raw: bytes) -> None:
    try:
        parts = decode_key(raw)
    except MalformedKey:
        return
    assert parts


def test_only_the_first_part_decides_the_partition() -> None:
    assert partition_of("abc", 6) == (murmur2(b"abc") & 0x7FFFFFFF) % 6
    with pytest.raises(MalformedKey):
        decode_key(None)


def test_every_part_of_an_identity_makes_another_file() -> None:
    base = ("source", b"path", 1, 2, 3, 0)
    others = [
        ("other", b"path", 1, 2, 3, 0),
        ("source", b"p", 1, 2, 3, 0),
        ("source", b"path", 9, 2, 3, 0),
        ("source", b"path", 1, 9, 3, 0),
        ("source", b"path", 1, 2, 9, 0),
        ("source", b"path", 1, 2, 3, 1),
        ("source", b"path", 1, 2, 3, 0, "chunks-personal"),
    ]
    ids = {file_id(*fields) for fields in [base, *others]}
    assert len(ids) == 8
    assert file_id(*base) == file_id(*base)
    assert path_id("ab", b"c") != path_id("a", b"bc")
