"""The order of a file's bytes, whatever order its frames come in, and the memory that takes."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.objects.errors import ObjectMissing, StoreUnwell
from headrace_files.archiver.buffers import Budget, BufferFull, PartBuffer
from headrace_files.archiver.claims import Claims
from headrace_files.archiver.cursor import Cursor
from headrace_files.archiver.patience import Patience, Withdrawn
from headrace_files.archiver.spool import SLOT, Spool


@given(
    st.binary(max_size=300),
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), max_size=60),
    st.sets(st.integers(0, 59)),
    st.randoms(use_true_random=False),
)
def test_pieces_in_any_order_twice_or_cut_otherwise_give_the_file_once(content, cuts, spills, shuffler):
    regular = [(start, 16) for start in range(0, len(content), 16)]
    pieces = [*regular, *cuts]
    shuffler.shuffle(pieces)
    cursor, spool, out = Cursor(), Spool(), b""
    for turn, (start, length) in enumerate(pieces):
        piece = memoryview(content)[start : start + length]
        for fresh in cursor.add(start, piece) if piece else ():
            out += fresh
        assert out == content[: cursor.next]
        if turn in spills:
            cursor.spill(spool)
            assert cursor.ahead_in_memory == 0
    assert out == content
    cursor.forget()
    assert (cursor.ahead, cursor.ahead_in_memory, spool.used) == (0, 0, 0)
    spool.close()


def test_what_waits_behind_a_gap_is_counted_until_the_gap_is_filled():
    cursor = Cursor()
    assert cursor.add(4, memoryview(b"efgh")) == []
    assert cursor.add(4, memoryview(b"efgh")) == []
    assert (cursor.next, cursor.ahead, cursor.furthest) == (0, 4, 8)
    assert b"".join(cursor.add(0, memoryview(b"abcde"))) == b"abcdefgh"
    assert (cursor.next, cursor.ahead) == (8, 0)


def test_a_part_is_the_same_bytes_from_memory_and_from_the_spool(tmp_path):
    message = memoryview(b"header" + bytes(range(256)) * 1024 + b"trailer")
    content = bytes(message[6:-7])
    budget, spool = Budget(1 << 20), Spool(tmp_path)

    def filled() -> PartBuffer:
        buffer = PartBuffer(budget)
        for start in range(6, len(message) - 7, 50_000):
            buffer.add(message[start : min(start + 50_000, len(message) - 7)])
        return buffer

    whole = PartBuffer(budget)
    whole.add(message[6:-7])
    for buffer in (whole, filled()):
        body = buffer.cut()
        assert body.content() == content
        assert body.contiguous() == content
        body.release()
    buffer = filled()
    buffer.spill(spool)
    assert spool.used >= len(content)
    buffer.add(memoryview(b"and more"))
    assert b"".join(buffer.pieces()) == content + b"and more"
    body = buffer.cut()
    reader = body.content()
    assert reader.read() == content + b"and more"
    reader.seek(100)
    assert reader.read(10) == content[100:110]
    assert body.content().read() == content + b"and more"
    assert body.contiguous() == content + b"and more"
    body.release()
    body.release()
    assert (budget.used, spool.used) == (0, 0)
    assert list(tmp_path.iterdir()) == []
    spool.close()


def test_a_spool_uses_its_space_again_and_gives_it_back(tmp_path):
    spool = Spool(tmp_path)
    kept = spool.write([b"k" * 10])
    for number in range(20):
        piece = bytes([number]) * (SLOT * 2 + 5)
        spooled = spool.write([piece[:7], piece[7:]])
        assert spooled.read() == piece
        assert spooled.read(SLOT - 3, 6) == piece[:6]
        spooled.free()
    assert spool.used == SLOT
    kept.free()
    assert spool.used == 0
    spool.close()


def test_a_full_memory_is_said_so_until_something_has_arrived():
    budget = Budget(100)
    buffer = PartBuffer(budget)
    buffer.add(memoryview(bytes(60)))
    assert budget.to_spill == 10
    body = buffer.cut()
    budget.check()
    buffer.add(memoryview(bytes(40)))
    with pytest.raises(BufferFull) as caught:
        budget.check()
    assert caught.value.steady
    body.release()
    budget.check()


def test_the_first_version_in_log_order_has_the_plain_name_until_it_is_settled():
    claims = Claims()
    assert claims.claim("a", "one")
    assert claims.claim("a", "one")
    assert not claims.claim("a", "two")
    claims.release("two")
    assert not claims.claim("a", "three")
    claims.release("one")
    assert claims.claim("a", "three")


def test_a_request_is_made_until_the_store_answers_and_only_one_probes_while_it_is_unwell():
    patience = Patience(lambda: True, longest_wait=0.02)
    healthy = threading.Event()
    under_way, most, lock = [], [], threading.Lock()

    def request() -> str:
        with lock:
            under_way.append(1)
            if patience.problem is not None:
                most.append(len(under_way))
        try:
            if not healthy.wait(0.01):
                raise StoreUnwell(endpoint="x", problem="down", retry_after=0.01)
            return "answer"
        finally:
            with lock:
                under_way.pop()

    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(patience.call(request, lambda: True))) for _ in range(8)]
    for thread in threads:
        thread.start()
    deadline = threading.Event()
    while len(most) < 20:
        assert not deadline.wait(0.01)
    with lock:
        most.clear()
    while len(most) < 10:
        deadline.wait(0.01)
    assert max(most) == 1
    healthy.set()
    for thread in threads:
        thread.join(10)
    assert answers == ["answer"] * 8
    assert patience.problem is None


def test_a_refusal_is_an_answer_and_is_not_tried_again():
    patience = Patience(lambda: True)
    calls = []

    def request() -> None:
        calls.append(1)
        raise ObjectMissing

    with pytest.raises(ObjectMissing):
        patience.call(request, lambda: True)
    assert len(calls) == 1


def test_nothing_is_requested_while_the_zombie_guard_says_no_and_work_that_nobody_wants_is_given_up():
    allowed, wanted, calls = threading.Event(), threading.Event(), []
    wanted.set()
    patience = Patience(allowed.is_set)
    ended: list[type[BaseException]] = []

    def work() -> None:
        try:
            patience.call(lambda: calls.append(1), wanted.is_set)
        except Withdrawn as error:
            ended.append(type(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    wanted.clear()
    thread.join(5)
    assert ended == [Withdrawn]
    assert calls == []
    allowed.set()
    patience.call(lambda: calls.append(1), lambda: True)
    assert calls == [1]


def test_every_byte_of_a_large_shuffled_file_is_in_its_place():
    source = random.Random(5)
    content = source.randbytes(1 << 20)
    pieces = list(range(0, len(content), 4096))
    source.shuffle(pieces)
    cursor = Cursor()
    out = b"".join(fresh for start in pieces for fresh in cursor.add(start, memoryview(content)[start : start + 4096]))
    assert out == content
