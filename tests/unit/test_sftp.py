"""What fetching decides without a network: names, and what a server may say."""

from __future__ import annotations

import struct
from collections import deque
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import PermanentError, TransientError
from headrace_files.sftp_source.errors import ConnectionLost, RemoteMissing, RemoteRefused
from headrace_files.sftp_source.names import log_path, remote_path
from headrace_files.sftp_source.protocol import Reader


class Channel:
    """Says what it is told to say, in pieces, and then hangs up."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = deque(pieces)

    def sendall(self, _data: bytes) -> None:
        pass

    def recv(self, _count: int) -> bytes:
        return self._pieces.popleft() if self._pieces else b""


def message(kind: int, body: bytes) -> bytes:
    return struct.pack(">IB", len(body) + 1, kind) + body


VERSION = message(2, struct.pack(">I", 3))


def reader(*pieces: bytes) -> Reader:
    return Reader(Channel(VERSION, *pieces), "host")  # type: ignore[arg-type]


def test_names_stand_for_a_day_and_are_plain_on_the_log() -> None:
    day = date(2017, 10, 5)
    assert remote_path("./Students/CA_students_%Y%m%d.zip", day) == "./Students/CA_students_20171005.zip"
    assert remote_path("plain", day) == "plain"
    assert log_path("./Students/CA_students_20171005.zip") == b"Students/CA_students_20171005.zip"
    assert log_path("/a//b/../../../c") == b"c"


def test_what_a_server_says_of_a_file_is_read_whatever_else_it_tells() -> None:
    flags = 1 | 2 | 4 | 8
    body = struct.pack(">IIQIIIII", 1, flags, 5_000_000_000, 0, 0, 0o100644, 7, 1_700_000_000)
    found = reader(message(105, body)).stat("x")
    assert (found.size, found.mtime, found.regular) == (5_000_000_000, 1_700_000_000, True)
    folder = struct.pack(">IIQI", 1, 1 | 4, 0, 0o40755)
    assert not reader(message(105, folder)).stat("x").regular


@pytest.mark.parametrize(
    ("code", "error"), [(2, RemoteMissing), (3, RemoteRefused), (4, RemoteRefused), (7, ConnectionLost)]
)
def test_a_refusal_is_told_for_what_it_is(code: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        reader(message(101, struct.pack(">II", 1, code))).stat("x")


def test_answers_come_in_any_pieces() -> None:
    said = message(103, struct.pack(">II", 1, 5) + b"hello") + message(103, struct.pack(">II", 2, 3) + b"you")
    found = reader(*(said[place : place + 1] for place in range(len(said))))
    found.request(b"h", 0, 5)
    found.request(b"h", 5, 3)
    assert [bytes(found.answer("x").data) for _ in range(2)] == [b"hello", b"you"]


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60) | st.builds(message, st.integers(100, 106), st.binary(max_size=40)))
def test_whatever_a_server_says_is_an_answer_or_an_error_of_ours(said: bytes) -> None:
    for ask in (
        lambda each: each.stat("x"),
        lambda each: each.open("x"),
        lambda each: each.answer("x"),
        lambda each: each.read(b"h", 0, 10, "x"),
    ):
        try:
            ask(reader(said))
        except (TransientError, PermanentError):
            pass
