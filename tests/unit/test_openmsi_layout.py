"""Their chunk messages, from the description of the layout; what is not one is refused, never guessed at."""

from __future__ import annotations

import hashlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.chunks.frames import Close, Data, Open, Whole
from headrace_files.openmsi import layout
from headrace_files.openmsi_bridge.bridging import ChunkTooLarge, Identity, Marks, Opened, check_size, frames_of
from tests.support.openmsi import TheirFile

CONTENT = b"0123456789" * 1000
HASH, CHUNK_HASH = hashlib.sha512(CONTENT).digest(), hashlib.sha512(b"abc").digest()


def packed(*fields: object) -> bytes:
    return bytes(msgpack.packb(list(fields), use_bin_type=True))


@pytest.mark.parametrize("mtime", [1_700_000_000.25, None])
def test_a_file_is_read_from_its_chunks(mtime):
    file = TheirFile("run.csv", CONTENT, "shots/today", mtime=mtime)
    chunks = [layout.decode(value) for _, value in file.messages()]
    assert [chunk.index for chunk in chunks] == [1, 2, 3]
    assert b"".join(chunk.data for chunk in chunks) == CONTENT
    assert {chunk.path for chunk in chunks} == {b"shots/today/run.csv"}
    assert {chunk.file_hash for chunk in chunks} == {HASH}
    assert {chunk.mtime for chunk in chunks} == {mtime}
    assert [chunk.last for chunk in chunks] == [False, False, True]
    assert chunks[-1].size == len(CONTENT)


@pytest.mark.parametrize("elements", [9, 10])
def test_what_we_write_is_what_they_write(elements):
    file = TheirFile("über größe;測定.csv", CONTENT, "a/b", mtime=None if elements == 9 else 1_700_000_000.5)
    for (key, value), number in zip(file.messages(), (1, 2, 3), strict=True):
        chunk = layout.decode(value)
        assert layout.encode(chunk, elements=elements) == value
        assert layout.encode_key(chunk) == key
        assert chunk.index == number


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        (("a.dat", HASH, CHUNK_HASH, 0, 1, 2, "sub", "_new", b"abc"), b"sub/a_new.dat"),
        (("a.dat", HASH, CHUNK_HASH, 0, 1, 2, "sub", b"abc"), b"sub/a.dat"),
        (("a.dat", HASH, CHUNK_HASH, 0, 1, 2, b"abc"), b"a.dat"),
        (("/home/lab/a.dat", HASH, CHUNK_HASH, 0, 1, 2, b"abc"), b"a.dat"),
        (("C:\\lab\\a.dat", HASH, CHUNK_HASH, 0, 1, 2, b"abc"), b"a.dat"),
        (("/home/lab/a.dat", "a.dat", HASH, CHUNK_HASH, 0, 1, 2, b"abc"), b"a.dat"),
        (("/home/lab/a.dat", HASH, CHUNK_HASH, 0, b"abc", "a.dat", 1, 2), b"a.dat"),
        (("back\\slash.dat", HASH, CHUNK_HASH, 0, 1, 2, "", "", b"abc"), b"back\\slash.dat"),
    ],
)
def test_every_layout_with_numbered_chunks_is_read(fields, path):
    chunk = layout.decode(packed(*fields))
    assert (chunk.path, chunk.index, chunk.total, chunk.data) == (path, 1, 2, b"abc")


@pytest.mark.parametrize(
    "fields",
    [
        ("/lab/a.dat", HASH, CHUNK_HASH, 0, b"abc"),
        ("/lab/a.dat", HASH, CHUNK_HASH, 0, b"abc", "a.dat"),
        ("/lab/a.dat", HASH, CHUNK_HASH, 0, b"abc", "a.dat", 2),
    ],
)
def test_a_layout_without_numbers_is_named_as_too_old(fields):
    with pytest.raises(layout.TooOldChunkMessage):
        layout.decode(packed(*fields))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xc1",
        packed(),
        msgpack.packb({"a": 1}),
        packed("a", HASH, CHUNK_HASH, 0, 1, 2, "", "", b"abc", 0.0, "more"),
        packed("a", HASH, CHUNK_HASH, 0, 0, 2, "", "", b"abc"),
        packed("a", HASH, CHUNK_HASH, 0, 3, 2, "", "", b"abc"),
        packed("a", HASH, CHUNK_HASH, -1, 1, 2, "", "", b"abc"),
        packed("a", HASH, CHUNK_HASH, 2**63, 2, 2, "", "", b"abc"),
        packed("a", HASH, CHUNK_HASH, 0.5, 1, 2, "", "", b"abc"),
        packed("a", HASH, CHUNK_HASH, 7, 1, 2, "", "", b"abc"),
        packed("a", HASH[:32], CHUNK_HASH, 0, 1, 2, "", "", b"abc"),
        packed("", HASH, CHUNK_HASH, 0, 1, 2, "", "", b"abc"),
        packed("a", HASH, CHUNK_HASH, 0, 1, 2, "", "", b""),
        packed("a", HASH, CHUNK_HASH, True, 1, 2, "", "", b"abc"),
    ],
)
def test_what_is_no_chunk_message_is_refused(value):
    with pytest.raises(layout.NoChunkMessage):
        layout.decode(value)


def test_bytes_that_have_not_their_hash_are_refused():
    with pytest.raises(layout.ChunkHashWrong):
        layout.decode(packed("a", HASH, CHUNK_HASH, 0, 1, 2, "", "", b"abd"))


@given(st.binary(max_size=200))
def test_no_bytes_at_all_do_anything_but_be_refused(value):
    with pytest.raises((layout.NoChunkMessage, layout.TooOldChunkMessage, layout.ChunkHashWrong)):
        layout.decode(value)


def test_every_chunk_gives_its_file_the_same_identity_and_another_content_another():
    file = TheirFile("run.csv", CONTENT, "shots")
    found = {Identity.of("lab", layout.decode(value)) for _, value in file.messages()}
    other = layout.decode(TheirFile("run.csv", CONTENT + b"!", "shots").value(1))
    assert len(found) == 1
    assert found.pop().path_id == Identity.of("lab", other).path_id
    assert Identity.of("lab", other).file != Identity.of("lab", layout.decode(file.value(1))).file


def test_the_first_chunk_that_is_met_opens_the_file_and_the_last_one_of_it_closes_it():
    file = TheirFile("run.csv", CONTENT, "shots")
    marks = Marks("lab")
    met = [layout.decode(file.value(index)) for index in (2, 3, 1)]
    kinds = [
        [type(frame) for frame in frames_of(chunk, marks, 0, opened=number > 0)] for number, chunk in enumerate(met)
    ]
    assert kinds == [[Open, Data], [Data, Close], [Data]]
    close = frames_of(met[1], marks, 0, opened=True)[-1]
    assert isinstance(close, Close)
    assert (close.n, close.size, close.alg, close.hash) == (3, len(CONTENT), "sha512", HASH)


def test_a_file_of_one_chunk_is_one_frame():
    chunk = layout.decode(TheirFile("small.csv", b"abc").value(1))
    [frame] = frames_of(chunk, Marks("lab"), 0, opened=False)
    assert isinstance(frame, Whole)
    assert (frame.path, bytes(frame.b), frame.mtime_ns) == (b"small.csv", b"abc", 1_700_000_000_250_000_000)


def test_a_file_of_unknown_mtime_has_that_of_its_message():
    chunk = layout.decode(TheirFile("small.csv", b"abc", mtime=None).value(1))
    [frame] = frames_of(chunk, Marks("lab"), 1_600_000_000_123, opened=False)
    assert isinstance(frame, Whole)
    assert frame.mtime_ns == 1_600_000_000_123_000_000


def test_a_chunk_that_fits_no_message_is_refused():
    chunk = layout.decode(TheirFile("large.bin", b"x" * 5_000_000, chunk=8_388_608).value(1))
    with pytest.raises(ChunkTooLarge):
        check_size(chunk)


def test_a_file_that_is_sent_again_after_a_while_is_opened_again_and_a_repeated_chunk_is_not():
    opened, file, minute = Opened(), b"f" * 16, 60_000
    assert not opened.meet(file, 0)
    opened.known(file, 7)
    assert opened.meet(file, minute)
    assert opened.meet(file, 2 * minute)
    assert opened.offset(file) == 7
    assert not opened.meet(file, 3 * minute + 1)
    assert opened.offset(file) is None


def test_only_so_many_open_files_are_remembered():
    opened = Opened(most=2)
    for file in (b"1", b"2", b"3"):
        opened.meet(file, 0)
    assert opened.meet(b"3", 0)
    assert not opened.meet(b"1", 0)
