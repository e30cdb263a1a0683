"""Blocks of good lines are read at once: they say exactly what reading line by line says."""

from __future__ import annotations

import io
import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.datasets import rows as rows_module
from headrace.datasets.blocks import Block, Made
from headrace.datasets.catalogue import Dataset, read
from headrace.datasets.rows import BadRow, Row, Rows
from headrace.datasets.survey import checked, records, survey

ENCODINGS = ("latin-1", "cp1252", "utf-8", "ascii")
HEADER = b"unused^a^B^more^c\n"

GOOD = b"no^%d^M\xfcller^^5\n"
DOUBTFUL = (
    b"\n", b"no^1^x^^5\r\n", b"no^1\rx^^5\n", b"one\n", b"no^1^x^^5^6\n", b'"no^1^x^^5\n', b'no^1^"x"^^5\n',
    b'no^1^x"^^5\n', b"no^^x^^5\n", b"no^1^x^^\n", b"no^\xe9^x^^~%/\n", b"no^1^\xc3\xa9^^5\n", b"no^1^\x81\x00^^5\n",
    b"no^1^" + b"z" * 1100 + b"^^5\n", b"no^1^x^^" + b"k" * 350 + b"\n", b"no^1^x^^" + b"\xe9" * 70 + b"\n",
)  # fmt: skip
"""Each is a line, or two, that may not be good; some are."""

any_bytes = st.binary(max_size=12).map(lambda raw: raw + b"\n")
good_lines = st.integers(0, 10**6).map(lambda number: GOOD % number)
one_doubtful = st.tuples(
    st.lists(good_lines, max_size=20), st.one_of(st.sampled_from(DOUBTFUL), any_bytes), st.lists(good_lines, max_size=5)
).map(lambda parts: b"".join([*parts[0], parts[1], *parts[2]]))
files = st.lists(one_doubtful, max_size=3).map(b"".join)


@cache
def dataset(encoding: str, key: str = '["a", "c"]') -> Dataset:
    """Three of five columns, in another order."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "feed.toml"
        columns = "".join(f'[[columns]]\nname = "{name}"\n' for name in "abc")
        head = f'name = "feed"\npurpose = "a test"\nencoding = "{encoding}"\ndelimiter = "^"\nquoting = "none"\n'
        place.write_text(f"{head}key = {key}\n[rules]\nbad_share = 1\n{columns}", "utf-8")
        return read(place)


def one_by_one(feed: Dataset, content: bytes) -> list[Made | BadRow]:
    """What is made of a file's rows, each looked at."""
    encoder = feed.encoder
    return [
        Made(row.line, encoder.wire_key(row.values, row.line), encoder.body(row.values, row.line, ascii_only=row.plain))
        if isinstance(row, Row)
        else row
        for row in checked(feed, io.BytesIO(content))
    ]


def told(found: list[Made | BadRow]) -> list[object]:
    """The same so that it can be compared: errors are equal if they say the same."""
    return [(each.line, each.raw, str(each.error)) if isinstance(each, BadRow) else each for each in found]


def compare(feed: Dataset, content: bytes, block: int) -> None:
    """See that both ways find the same."""
    rows = list(checked(feed, io.BytesIO(content)))
    bad = sum(isinstance(row, BadRow) for row in rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "BLOCK", block)
        assert told(list(records(feed, io.BytesIO(content)))) == told(one_by_one(feed, content))
        if bad < 10:
            found = survey(feed, io.BytesIO(content))
            assert (found.good, found.bad.total()) == (len(rows) - bad, bad)
            assert found.not_ascii == sum(isinstance(row, Row) and not row.plain for row in rows)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ENCODINGS), files, st.sampled_from([b"", b"1^2^3^4", b"1^2^3^4^5"]), st.integers(1, 100))
def test_blocks_hold_what_each_line_of_them_says(encoding: str, lines: bytes, last: bytes, block: int) -> None:
    compare(dataset(encoding), HEADER + lines + last, block)


@pytest.mark.parametrize("doubtful", DOUBTFUL, ids=range(len(DOUBTFUL)))
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_one_doubtful_line_among_good_ones_is_judged_as_if_it_stood_alone(encoding: str, doubtful: bytes) -> None:
    good = [GOOD % number if encoding == "latin-1" else b"no^%d^x^^5\n" % number for number in range(20)]
    content = HEADER + b"".join([*good, doubtful, *good])
    for block in (len(HEADER) + 30, len(content) // 4):
        compare(dataset(encoding), content, block)


def test_most_rows_of_a_dump_come_in_blocks_and_one_bad_row_costs_its_own_block_only() -> None:
    feed = dataset("latin-1")
    lines = [GOOD % number for number in range(20_000)]
    lines[15_000] = b"one field\n"
    found = list(Rows(feed.declaration).blocks(io.BytesIO(HEADER + b"".join(lines))))
    in_blocks = sum(len(each.lines) for each in found if isinstance(each, Block))
    assert 0.4 * len(lines) < in_blocks < len(lines)
    assert sum(isinstance(each, BadRow) for each in found) == 1


def test_a_key_that_is_blank_or_must_be_escaped_is_found_in_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "BLOCK", 10)
    feed = dataset("latin-1")
    content = HEADER + b"^2^^^1\n" * 3 + b"^3^^^\n" + b"^4^^^\xe9\n"
    found = list(records(feed, io.BytesIO(content)))
    assert [each.key for each in found if isinstance(each, Made)] == [b"2~1"] * 3 + [b"4~%25C3%25A9"]
    assert [(each.line, each.error.code) for each in found if isinstance(each, BadRow)] == [(5, "empty-key")]
