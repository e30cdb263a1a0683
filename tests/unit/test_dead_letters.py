"""What is shown, chosen and decided of a dead letter, without Kafka."""

from __future__ import annotations

import json

import msgspec
import pytest

from headrace.chunks import frames
from headrace.codec import avro
from headrace.deadletters.contents import describe, describe_key
from headrace.deadletters.decisions import Decision, decision_of
from headrace.deadletters.letters import DeadLetter
from headrace.deadletters.selection import NotAnId, Selection, parse_id, state_of
from headrace.events import Covers, FileEvent, UploadAck
from headrace.proof.evidence import Evidence
from headrace.topics import CHUNKS, FILES

LETTER = DeadLetter(
    partition=2, offset=17, at=5000, key=b"aa/bb", size=3, topic="p.chunks", source_partition=2, source_offset=40,
    source_time=1, group="p.assembler.site", stage="assembler", code="unsafe-path", message="", attempt=1,
    first_failed=1, item="bb", carried=(("hr-job", b"nightly"),),
)  # fmt: skip


@pytest.mark.parametrize(
    ("filters", "taken"),
    [
        ({}, True),
        ({"codes": {"unsafe-path", "other"}}, True),
        ({"codes": {"other"}}, False),
        ({"services": {"assembler"}}, True),
        ({"services": {"site"}}, True),
        ({"services": {"assembler.site"}}, True),
        ({"services": {"p.assembler.site"}}, True),
        ({"services": {"archiver"}}, False),
        ({"topics": {"chunks"}}, True),
        ({"topics": {"p.chunks"}}, True),
        ({"topics": {"files"}}, False),
        ({"jobs": {"nightly"}}, True),
        ({"jobs": {"other"}}, False),
        ({"items": {"bb"}}, True),
        ({"items": {"aa"}}, False),
        ({"since": 5000, "until": 5001}, True),
        ({"since": 5001}, False),
        ({"until": 5000}, False),
        ({"ids": {(2, 17)}}, True),
        ({"ids": {(2, 18)}}, False),
    ],
)
def test_filters(filters, taken):
    assert Selection("p.", **filters).takes(LETTER) is taken


def test_a_letter_is_open_until_it_has_died_too_often_or_somebody_decides():
    assert state_of(LETTER, {}) == "open"
    assert state_of(msgspec.structs.replace(LETTER, attempt=5), {}) == "quarantined"
    decision = Decision("discarded", (2, 17), LETTER.group, "bb", 40, "junk", 1)
    assert state_of(LETTER, {decision.letter: decision}) == "discarded"


@pytest.mark.parametrize("text", ["", "2", "2:", ":17", "2:17:1", "-1:5", "²:1", "a:b"])
def test_what_is_no_id_is_refused(text):
    assert parse_id("2:17") == (2, 17)
    with pytest.raises(NotAnId):
        parse_id(text)


def test_personal_values_are_masked_and_bytes_are_never_shown():
    whole = frames.Whole(
        v=1, source="lab", path=b"Jane Doe.txt", chunk=4096, mtime_ns=1, attempt=0, alg="sha256", hash=b"h" * 32,
        b=memoryview(b"secret bytes"), meta={"owner": "Jane Doe"},
    )  # fmt: skip
    for unmask in (False, True):
        shown = json.dumps(describe(CHUNKS, frames.encode(whole), unmask=unmask))
        assert ("Jane Doe.txt" in shown, '"Jane Doe"' in shown) == (unmask, unmask)
        assert "secret" not in shown
        assert "lab" in shown
    event = FileEvent(
        path_id=b"p" * 16, file=b"f" * 16, source="lab", path=b"Jane Doe.txt", state="announced", attempt=0, mtime_ns=1,
        partition=0, reason="Jane Doe left", at=1,
    )  # fmt: skip
    shown = describe(FILES, avro.encode(event), unmask=False)
    assert "Jane" not in json.dumps(shown)
    assert shown["file"] == event.file.hex()


def test_what_cannot_be_decoded_is_shown_as_length_and_hash():
    shown = describe(CHUNKS, b"\xff secret", unmask=False)
    assert shown["value"]["bytes"] == 8
    assert "undecodable" in shown
    assert "secret" not in json.dumps(shown)
    assert describe(None, b"x", unmask=True)["head"] == "78"


def test_keys_show_ids_and_mask_names():
    assert describe_key(b"0" * 32 + b"/" + b"a" * 32, unmask=False) == "0" * 32 + "/" + "a" * 32
    assert "1234567890" not in (describe_key(b"1234567890/x", unmask=False) or "")
    assert describe_key(b"1234567890/x", unmask=True) == "1234567890/x"
    assert describe_key(b"\xff\xfe", unmask=False) == "(masked, 2 bytes)"
    assert describe_key(None, unmask=False) is None


def ack(item, outcome, last, at=1, file=b"f" * 16, **more):
    return UploadAck(
        group="g",
        item=item,
        partition=0,
        first=0,
        last=last,
        covers=[Covers(outcome=outcome)],
        file=file,
        at=at,
        **more,
    )


def test_a_receipt_that_says_nothing_sensible_is_no_decision():
    good = UploadAck(
        group="p.dlq", item="dead:2:17", partition=2, first=17, last=17,
        covers=[Covers(outcome="unchanged", code="discarded")], where="g/bb/40/junk", at=1,
    )  # fmt: skip
    assert decision_of(good) == Decision("discarded", (2, 17), "g", "bb", 40, "junk", 1)
    for broken in ({"item": "dead:2"}, {"item": "x:2:17"}, {"where": None}, {"where": "g/bb/x"}, {"covers": []}):
        assert decision_of(msgspec.structs.replace(good, **broken)) is None


def test_a_decision_closes_the_death_it_was_made_on_and_no_later_one():
    evidence = Evidence()
    item = (b"f" * 16).hex()
    evidence.take_decision(Decision("discarded", (0, 1), "g", item, 40, None, 1))
    assert evidence.discarded("g", item, 40)
    assert not evidence.discarded("g", item, 41)
    evidence.take_receipt(ack("dead:0:7", "dead_lettered", 7))
    evidence.take_receipt(ack("dead:0:8", "dead_lettered", 8, file=None))
    assert (evidence.dead_messages("g", b"f" * 16), evidence.stray_messages()) == (1, 1)
    evidence.take_decision(Decision("redriven", (0, 2), "g", "dead:0:7", 7, None, 1))
    evidence.take_decision(Decision("discarded", (0, 3), "g", "dead:0:8", 8, None, 1))
    assert (evidence.dead_messages("g", b"f" * 16), evidence.stray_messages()) == (0, 0)


def test_a_receipt_that_is_taken_back_is_no_evidence():
    evidence = Evidence()
    item = (b"f" * 16).hex()
    evidence.take_receipt(ack(item, "delivered", 5))
    evidence.withdraw("g", item)
    assert not evidence.receipts["g"]
