"""The low-water mark never passes an unfinished item, and what is finished is never done again."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import deadletter
from headrace.chunks.frames import Close
from headrace.events import Covers, UploadAck
from headrace.stage.contract import Message, Partition, Version
from headrace.stage.offsets import Mark, Track, newest_header, newest_named, parse_metadata

PARTITION = Partition("chunks", 0)


def message(item: str, offset: int) -> Message:
    return Message(
        partition=PARTITION, offset=offset, time=0, key=("path", item), path="path", item=item,
        value=Close(v=1, abort="test"), raw=b"", raw_key=None,
    )  # fmt: skip


def ack(item: str, first: int, last: int, file: bytes | None = None, ctime_ns: int | None = None) -> UploadAck:
    return UploadAck(
        group="g", item=item, partition=0, first=first, last=last, covers=[Covers(outcome="delivered")], file=file,
        ctime_ns=ctime_ns, at=0,
    )  # fmt: skip


def track(low: int = 0, position: int | None = None, receipts: int = 0, end: int = 0) -> Track:
    return Track(PARTITION, Mark(low, low if position is None else position, receipts), end)


def test_low_stays_at_the_first_message_of_the_oldest_open_item() -> None:
    books = track()
    books.open("a", message("a", 3))
    books.open("b", message("b", 5))
    books.position = 10
    assert books.mark().low == 3
    entry = books.settle("a")
    assert entry is not None
    assert books.mark().low == 3, "the receipt is not on the log yet"
    books.release(entry, ack("a", 3, 7), 100)
    assert books.mark().low == 5


def test_an_item_that_opens_again_while_its_receipt_is_under_way_holds_low_by_itself() -> None:
    books = track()
    books.open("a", message("a", 0))
    first = books.settle("a")
    books.open("a", message("a", 8))
    books.position = 9
    assert first is not None
    books.release(first, ack("a", 0, 7), 50)
    assert books.mark().low == 8
    assert not books.covered("a", 8)
    assert books.covered("a", 7)


def test_receipts_are_read_again_from_where_they_ended_when_the_item_at_low_opened() -> None:
    books = track(end=40)
    books.open("slow", message("slow", 0))
    books.open("quick", message("quick", 1))
    books.position = 5
    entry = books.settle("quick")
    assert entry is not None
    books.release(entry, ack("quick", 1, 4), 41)
    # The receipt of "quick" lies at 41; whoever takes over at low = 0 must find it.
    assert books.mark() == Mark(low=0, position=5, receipts=40)


def test_an_item_that_is_met_again_after_a_restart_keeps_the_older_place_of_receipts() -> None:
    books = track(low=0, position=10, receipts=40, end=60)
    books.learn(ack("quick", 1, 4), "path")
    books.open("slow", message("slow", 0))
    books.position = 5
    assert books.mark().receipts == 40, "the receipt of quick lies between 40 and 60"
    entry = books.settle("slow")
    assert entry is not None
    books.release(entry, ack("slow", 0, 9), 60)
    books.position = 10
    assert books.mark() == Mark(low=10, position=10, receipts=61)


def test_metadata_of_another_tool_is_not_ours() -> None:
    assert parse_metadata("pos=5 rcp=7") == (5, 7)
    assert parse_metadata(Mark(1, 2, 3).metadata) == (2, 3)
    for foreign in (None, "", "pos=5", "pos=5 rcp=x", "pos=5 rcp=7 more", "pos=99999999999999999999 rcp=1"):
        assert parse_metadata(foreign) is None


def test_the_later_ctime_is_newer_and_without_one_the_later_place_in_the_log() -> None:
    old, new = Version(1, 9, b"a"), Version(2, 3, b"b")
    assert new.newer_than(old)
    assert not old.newer_than(new)
    assert Version(None, 9, b"a").newer_than(Version(5, 3, b"b"))
    books = track()
    books.learn(ack("b", 3, 3, b"b", 2), "path")
    books.learn(ack("a", 9, 9, b"a", 1), "path")
    newest = books.newest("path")
    assert newest is not None
    assert newest.file == b"b"


@dataclass
class Step:
    """One message of an item, and whether it ends it."""

    item: int
    ends: bool


@settings(max_examples=200)
@given(
    st.lists(st.builds(Step, item=st.integers(0, 5), ends=st.booleans()), max_size=60),
    st.integers(0, 10_000),
    st.lists(st.integers(0, 3), min_size=60, max_size=60),
)
def test_whoever_takes_over_sees_every_message_of_every_item_without_a_receipt(
    steps: list[Step], seed: int, delays: list[int]
) -> None:
    """Plays a log with receipts that arrive late, and checks each mark against the truth."""
    del seed
    books = track()
    generation = dict.fromkeys(range(6), 0)
    first: dict[str, int] = {}
    pending: list[tuple[int, str, int, object]] = []
    receipts: list[tuple[str, int]] = []  # the receipts topic: item, last
    for offset, step in enumerate(steps):
        item = f"{step.item}-{generation[step.item]}"
        if item not in first:
            first[item] = offset
            books.open(item, message(item, offset))
        books.position = offset + 1
        if step.ends:
            entry = books.settle(item)
            pending.append((offset + delays[offset], item, offset, entry))
            generation[step.item] += 1
        for waiting in [found for found in pending if found[0] <= offset]:
            pending.remove(waiting)
            _, done, last, entry = waiting
            receipts.append((done, last))
            books.release(entry, ack(done, first[done], last), len(receipts) - 1)  # type: ignore[arg-type]
        mark = books.mark()
        finished = {done for done, _ in receipts}
        unfinished = [start for begun, start in first.items() if begun not in finished]
        assert mark.low <= min(unfinished, default=offset + 1)
        # A new owner reads receipts from mark.receipts on: they cover every finished item it will meet from low on.
        seen = dict(receipts[mark.receipts :])
        for done, last in receipts:
            if last >= mark.low:
                assert seen.get(done) == last


def test_what_a_receipt_under_way_covers_is_not_done_again_when_a_batch_comes_twice() -> None:
    books = track()
    books.open("a", message("a", 3))
    entry = books.settle("a", 5)
    assert books.covered("a", 5)
    assert not books.covered("a", 6)
    books.position = 6
    assert books.mark().low == 3, "it is not on the log yet"
    assert entry is not None
    books.release(entry, ack("a", 3, 5), 1)
    assert books.covered("a", 5)
    assert books.mark().low == 6


def test_receipts_of_other_files_do_not_pile_up_in_memory_while_one_sender_holds_low() -> None:
    books = track()
    books.open("of a sender that died", message("of a sender that died", 0))

    def deliver(offsets: range) -> int:
        tracemalloc.start()
        for offset in offsets:
            item = f"{offset:032x}"
            books.open(item, message(item, offset))
            books.position = offset + 1
            entry = books.settle(item, offset)
            assert entry is not None
            books.release(entry, ack(item, offset, offset), offset)
            assert books.mark().low == 0
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return kept

    deliver(range(1, 5_000))
    assert deliver(range(5_000, 25_000)) < 500_000


def test_a_receipt_that_was_taken_back_covers_nothing_and_its_version_is_not_the_newest() -> None:
    books = track(end=5)
    file = bytes(15) + b"\x01"
    books.learn(ack(file.hex(), 3, 9, file), "path")
    books.learn(ack("other", 4, 8), "path")
    books.withdraw(file.hex(), "path")
    assert not books.covered(file.hex(), 3)
    assert books.covered("other", 8)
    assert books.newest("path") is None


def test_a_re_driven_message_is_as_old_as_it_was_and_tells_of_the_newest_version() -> None:
    newest = Version(None, 20, bytes(16))
    headers = [(deadletter.FIRST_OFFSET, b"7"), (deadletter.NEWEST, newest_header(newest))]
    again = replace(message("a", 500), headers=headers)
    assert again.order == 7
    assert message("a", 500).order == 500
    books = track()
    books.open("a", again)
    assert books.newest("path") == newest


def test_headers_that_somebody_made_up_are_no_versions() -> None:
    for value in (b"", b"1/2", b"x/1/" + b"0" * 32, b"1/" + b"9" * 40 + b"/" + b"0" * 32, b"\xff" * 50):
        assert newest_named([(deadletter.NEWEST, value)]) is None
        assert deadletter.first_offset([(deadletter.FIRST_OFFSET, value)], 9) == 9
    assert deadletter.first_offset([(deadletter.FIRST_OFFSET, b"99")], 9) == 9
    for version in (Version(None, 0, bytes(16)), Version(-5, 7, b"\x01" * 16)):
        assert newest_named([(deadletter.NEWEST, newest_header(version))]) == version
