"""The arithmetic of books, on events and receipts made up here."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.events import Covers, FileEvent, Outcome, UploadAck
from headrace.keys import file_id, path_id
from headrace.proof.books import STATUSES, Account, accounts, expectations
from headrace.proof.evidence import Evidence
from headrace.proof.totals import Totals

TREE = "headrace.assembler.main"
LAKE = "headrace.archiver.lake"
BOTH = {TREE: {0: 0}, LAKE: {0: 0}}


def sent(path: bytes = b"a/b.bin", *, attempt: int = 0, **changes: object) -> FileEvent:
    size = 10
    event = FileEvent(
        path_id=path_id("lab", path),
        file=file_id("lab", path, 7, size, 1_000, attempt),
        source="lab",
        path=path,
        state="announced",
        attempt=attempt,
        inode=7,
        mtime_ns=1_000,
        size=size,
        alg="sha256",
        hash=hashlib.sha256(path).digest(),
        partition=0,
        first=10,
        last=20,
        at=5,
    )
    return msgspec.structs.replace(event, **changes)


def receipt(event: FileEvent, outcome: Outcome = "delivered", group: str = TREE, **changes: object) -> UploadAck:
    code = changes.pop("code", None)
    ack = UploadAck(
        group=group,
        item=event.file.hex(),
        file=event.file,
        partition=0,
        first=10,
        last=20,
        covers=[Covers(outcome=outcome, code=code if isinstance(code, str) else None)],
        where="file:///tree/a",
        alg=event.alg,
        hash=event.hash,
        size=event.size,
        at=6,
    )
    return msgspec.structs.replace(ack, **changes)


def dead_message(event: FileEvent | None, offset: int = 15, group: str = TREE) -> UploadAck:
    ack = receipt(event or sent(), "dead_lettered", group, item=f"dead:0:{offset}")
    return msgspec.structs.replace(ack, file=event.file if event else None)


def books_of(
    *said: FileEvent | UploadAck, positions: dict[str, dict[int, int]] | None = None
) -> tuple[dict[bytes, Account], Totals]:
    evidence = Evidence()
    for offset, word in enumerate(said):
        if isinstance(word, FileEvent):
            evidence.take_event(word, offset)
        else:
            evidence.take_receipt(word)
    totals = Totals()
    found = {}
    places = {TREE: {0: 0}} if positions is None else positions
    for account in accounts(evidence, {group: {"chunks": offsets} for group, offsets in places.items()}):
        totals.take(account)
        assert account.file not in found
        found[account.file] = account
    totals.stray_dead_letters = len({item for items in evidence.stray.values() for item in items})
    return found, totals


def status(account: Account, group: str = TREE) -> str:
    return account.entries[group].status


def test_a_file_that_every_group_received_with_the_same_hash_balances() -> None:
    file = sent()
    found, totals = books_of(file, receipt(file), receipt(file, group=LAKE), positions=BOTH)
    assert found[file.file].entries[TREE].hashes_equal is True
    assert found[file.file].good
    assert totals.exit_code == 0
    assert totals.books[LAKE].delivered_bytes == 10


def test_a_group_that_has_not_come_to_a_file_yet_has_it_open() -> None:
    file = sent()
    found, totals = books_of(file, receipt(file), positions={TREE: {0: 21}, LAKE: {0: 20}})
    assert status(found[file.file], LAKE) == "open"
    assert totals.exit_code == 1


def test_a_personal_file_is_expected_of_those_who_read_its_topic_or_left_a_receipt_of_such_a_file() -> None:
    ordinary, personal = sent(), sent(b"people", topic="chunks-personal")
    evidence = Evidence()
    evidence.take_event(ordinary, 0)
    evidence.take_event(personal, 1)
    evidence.take_receipt(receipt(personal, group="fan-out"))
    assert evidence.groups() == {"fan-out": {"chunks-personal"}}
    committed = {TREE: {"chunks": {0: 5}}, LAKE: {"chunks": {0: 5}, "chunks-personal": {0: 21}}}
    found = {each.file: each.entries for each in accounts(evidence, expectations(evidence.groups(), committed))}
    assert found[ordinary.file].keys() == {TREE, LAKE}
    assert {group: entry.status for group, entry in found[personal.file].items()} == {
        "fan-out": "delivered", LAKE: "missing",
    }  # fmt: skip


def test_a_fan_out_that_runs_at_times_need_not_have_files_that_name_no_dataset() -> None:
    fan_out = "headrace.csv_fanout.records"
    plain, refused, rows = sent(), sent(b"refused"), sent(b"rows", dataset="students")
    evidence = Evidence()
    for offset, event in enumerate((plain, refused, rows)):
        evidence.take_event(event, offset)
    evidence.take_receipt(dead_message(refused, group=fan_out))
    positions = {TREE: {"chunks": {0: 5}}, fan_out: {"chunks": {0: 5}}}
    found = {each.file: each.entries for each in accounts(evidence, positions, {fan_out})}
    assert found[plain.file].keys() == {TREE}
    assert found[refused.file][fan_out].status == "dead_lettered"
    assert found[rows.file][fan_out].status == "open"
    # One that takes files by their paths has said so by now.
    evidence.take_receipt(receipt(refused, "delivered", fan_out))
    found = {each.file: each.entries for each in accounts(evidence, positions, {fan_out})}
    assert found[plain.file][fan_out].status == "open"


def test_a_file_that_nobody_must_have_is_not_balanced_though_others_are() -> None:
    rows, plain = sent(b"rows", dataset="students"), sent()
    evidence = Evidence()
    evidence.take_event(plain, 0)
    evidence.take_event(rows, 1)
    evidence.take_receipt(receipt(rows, group=LAKE))
    totals = Totals()
    for account in accounts(evidence, {LAKE: {"chunks": {0: 21}}}, {LAKE}):
        totals.take(account)
    assert (totals.unreceived, totals.exit_code) == (1, 1)
    totals.expect_also(TREE, "chunks", of_datasets=False)
    assert totals.unreceived == 0


def test_a_group_that_passed_a_file_without_a_receipt_misses_it() -> None:
    file = sent()
    found, totals = books_of(file, positions={TREE: {0: 21}})
    assert status(found[file.file]) == "missing"
    assert totals.exit_code == 1


def test_a_file_that_no_group_reads_is_not_balanced() -> None:
    _, totals = books_of(sent(), positions={})
    assert totals.exit_code == 1


def test_a_file_that_is_still_being_sent_is_open_even_behind_the_committed_offset() -> None:
    file = sent(state="sending")
    found, _ = books_of(file, positions={TREE: {0: 99}})
    assert status(found[file.file]) == "open"


def test_an_aborted_version_needs_no_receipt() -> None:
    file = sent(state="aborted", hash=None)
    found, totals = books_of(file, positions={TREE: {0: 99}})
    assert found[file.file].entries[TREE].code == "aborted"
    assert status(found[file.file]) == "unchanged"
    assert totals.exit_code == 0


def test_a_superseded_version_is_accounted_for() -> None:
    file = sent()
    found, totals = books_of(file, receipt(file, "unchanged", code="superseded", hash=None))
    assert found[file.file].entries[TREE].code == "superseded"
    assert totals.exit_code == 0


def test_a_version_whose_bytes_are_gone_is_failed() -> None:
    file = sent(state="expired")
    found, totals = books_of(file)
    assert status(found[file.file]) == "failed"
    assert totals.exit_code == 1


def test_a_delivered_file_with_another_hash_is_failed() -> None:
    file = sent()
    found, totals = books_of(file, receipt(file, hash=b"x" * 32))
    entry = found[file.file].entries[TREE]
    assert (entry.status, entry.code, entry.hashes_equal) == ("failed", "hash-differs", False)
    assert totals.exit_code == 1


def test_a_delivered_file_of_another_size_is_failed() -> None:
    file = sent()
    found, _ = books_of(file, receipt(file, size=9, hash=None))
    assert found[file.file].entries[TREE].code == "size-differs"


def test_hashes_of_different_algorithms_are_not_compared() -> None:
    file = sent()
    found, _ = books_of(file, receipt(file, alg="sha512", hash=b"x" * 64))
    assert status(found[file.file]) == "delivered"
    assert found[file.file].entries[TREE].hashes_equal is None


@pytest.mark.parametrize("outcome", ["dead_lettered", "held"])
def test_what_was_put_aside_balances_with_exit_code_3(outcome: Outcome) -> None:
    file = sent()
    _, totals = books_of(file, receipt(file, outcome, code="unsafe-path"))
    assert totals.exit_code == 3


def test_a_dead_message_alone_makes_its_file_dead_lettered() -> None:
    file = sent()
    found, totals = books_of(file, dead_message(file))
    assert status(found[file.file]) == "dead_lettered"
    assert totals.exit_code == 3


def test_a_dead_message_of_a_file_that_is_still_being_sent_leaves_it_open() -> None:
    file = sent(state="sending")
    found, totals = books_of(file, dead_message(file))
    assert status(found[file.file]) == "open"
    assert totals.exit_code == 1


def test_a_dead_duplicate_does_not_spoil_a_delivered_file() -> None:
    file = sent()
    found, totals = books_of(file, dead_message(file), receipt(file))
    assert status(found[file.file]) == "delivered"
    assert found[file.file].entries[TREE].dead_messages == 1
    assert totals.exit_code == 0


def test_a_dead_message_that_belongs_to_no_file_is_not_hidden() -> None:
    file = sent()
    _, totals = books_of(file, receipt(file), dead_message(None))
    assert totals.stray_dead_letters == 1
    assert totals.exit_code == 3


def test_a_delivered_receipt_wins_over_a_later_failure() -> None:
    file = sent()
    found, _ = books_of(file, receipt(file), receipt(file, "failed", code="incomplete", at=99, last=30))
    assert status(found[file.file]) == "delivered"


def test_of_two_failures_the_later_one_is_told() -> None:
    file = sent()
    found, _ = books_of(file, receipt(file, "failed", code="late", at=9), receipt(file, "failed", code="early", at=7))
    assert found[file.file].entries[TREE].code == "late"


def test_a_later_attempt_that_arrived_settles_the_failed_one() -> None:
    first, second = sent(), sent(attempt=1)
    found, totals = books_of(first, second, receipt(first, "failed", code="expired"), receipt(second))
    assert found[first.file].entries[TREE].settled_by == second.file
    assert status(found[first.file]) == "failed"
    assert totals.books[TREE].settled.total() == 1
    assert totals.exit_code == 0


def test_a_later_attempt_settles_only_the_groups_that_have_it() -> None:
    first, second = sent(), sent(attempt=1)
    found, totals = books_of(
        first, second, receipt(first, "failed"), receipt(second), receipt(first, "failed", LAKE), positions=BOTH
    )
    assert found[first.file].entries[LAKE].settled_by is None
    assert totals.exit_code == 1


def test_a_later_attempt_that_failed_too_settles_nothing() -> None:
    first, second = sent(), sent(attempt=1)
    found, totals = books_of(first, second, receipt(first, "failed"), receipt(second, "failed"))
    assert found[first.file].entries[TREE].settled_by is None
    assert totals.exit_code == 1


def test_another_version_of_the_path_does_not_settle_a_failed_one() -> None:
    first = sent()
    other = sent(attempt=1, mtime_ns=2_000, file=b"o" * 16)
    found, _ = books_of(first, other, receipt(first, "failed"), receipt(other))
    assert found[first.file].entries[TREE].settled_by is None


def test_a_receipt_for_a_file_that_nobody_announced_is_told() -> None:
    file = sent()
    found, totals = books_of(receipt(file, "failed", code="incomplete"))
    assert found[file.file].sent is None
    assert totals.unannounced == 1
    assert totals.exit_code == 1


def test_receipts_of_other_items_are_left_to_other_books() -> None:
    file = sent()
    found, totals = books_of(
        file, receipt(file), receipt(file, "failed", item="wrong"), receipt(file, "failed", item="z" * 32)
    )
    assert len(found) == 1
    assert totals.exit_code == 0


def test_an_item_with_lines_is_as_good_as_its_worst_line() -> None:
    file = sent()
    parts = [Covers(outcome="delivered", count=9), Covers(outcome="dead_lettered", count=1, code="bad-row")]
    found, _ = books_of(file, receipt(file, covers=parts))
    assert status(found[file.file]) == "dead_lettered"


def test_the_last_word_of_a_source_counts_and_an_end_is_not_taken_back() -> None:
    file = sent()
    sending = sent(state="sending", hash=None)
    found, _ = books_of(sending, file, sending)
    account = found[file.file]
    assert account.sent is not None
    assert account.sent.state == "announced"


_states = st.sampled_from(["sending", "announced", "aborted", "expired"])
_events = st.builds(
    lambda path, attempt, state: sent(path, attempt=attempt, state=state),
    st.sampled_from([b"a", b"b"]),
    st.integers(0, 2),
    _states,
)
_acks = st.builds(
    lambda path, attempt, outcome, group, code, last, at, good: receipt(
        sent(path, attempt=attempt),
        outcome,
        group,
        code=code,
        last=last,
        at=at,
        hash=hashlib.sha256(path).digest() if good else b"x" * 32,
    ),
    st.sampled_from([b"a", b"b", b"c"]),
    st.integers(0, 2),
    st.sampled_from(["delivered", "unchanged", "dead_lettered", "held", "failed"]),
    st.sampled_from([TREE, LAKE]),
    st.sampled_from([None, "x", "y"]),
    st.integers(20, 22),
    st.integers(1, 3),
    st.booleans(),
)
_dead = st.builds(
    lambda path, offset, group: dead_message(None if path is None else sent(path), offset, group),
    st.sampled_from([None, b"a", b"b"]),
    st.integers(10, 12),
    st.sampled_from([TREE, LAKE]),
)


Word = tuple[int, FileEvent] | UploadAck


@st.composite
def _words_twice(draw: st.DrawFn) -> tuple[list[Word], list[Word]]:
    """Words, and the same ones in another order with some of them said again."""
    events = draw(st.lists(_events, max_size=8))
    words: list[Word] = [*enumerate(events), *draw(st.lists(_acks | _dead, max_size=12))]
    repeated = draw(st.lists(st.sampled_from(words), max_size=6)) if words else []
    return words, draw(st.permutations(words + repeated))


def _account(words: list[Word]) -> tuple[dict[bytes, Account], Totals]:
    evidence = Evidence()
    for word in words:
        if isinstance(word, tuple):
            evidence.take_event(word[1], word[0])
        else:
            evidence.take_receipt(word)
    totals = Totals()
    found = {}
    for entry in accounts(evidence, {TREE: {"chunks": {0: 21}}, LAKE: {"chunks": {0: 5}}}):
        totals.take(entry)
        found[entry.file] = entry
    return found, totals


@given(_words_twice())
def test_doubled_and_reordered_words_change_nothing(said: tuple[list[Word], list[Word]]) -> None:
    words, again = said
    assert _account(words) == _account(again)


@given(_words_twice())
def test_the_outcomes_of_every_group_add_up_to_what_was_sent(said: tuple[list[Word], list[Word]]) -> None:
    found, totals = _account(said[0])
    for group, book in totals.books.items():
        known = {file for file, account in found.items() if group in account.entries}
        assert book.sent == len(known) == sum(book.counts[name] for name in STATUSES)
        good = book.counts["delivered"] + book.counts["unchanged"]
        assert book.sent == good + book.bad + book.put_aside + book.settled.total()
