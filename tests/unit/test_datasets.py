"""Declared datasets: what a file is read as, strictly; what its records are, exactly."""

from __future__ import annotations

import csv
import gzip
import io
import tempfile
import zipfile
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.cli import run
from headrace.codec import avro
from headrace.codec.records import Record, decode_record
from headrace.datasets import rows as rows_module
from headrace.datasets.catalogue import Dataset, Datasets, read
from headrace.datasets.encoding import prefix, zigzag
from headrace.datasets.errors import DatasetMalformed, DatasetTwice, RefusedFile, RefusedRow, UnknownDataset
from headrace.datasets.rows import BadRow, Row
from headrace.datasets.survey import checked, survey
from headrace.errors import PoisonError
from headrace.events import EndMarker

FILE = bytes(range(16))


def declare(folder: Path, columns: Sequence[str] = ("a", "b"), name: str = "feed", **more: Any) -> Dataset:
    """A dataset of string columns, or of those that are declared in TOML themselves."""
    given: dict[str, Any] = {"purpose": '"a test"', "key": f'["{columns[0].split(chr(34))[0]}"]', **more}
    rules = given.pop("rules", "")
    lines = [f'name = "{name}"', *(f"{key} = {value}" for key, value in given.items()), "[rules]", rules]
    for column in columns:
        lines += ["[[columns]]", column if "=" in column else f'name = "{column}"']
    place = folder / f"{name}.toml"
    place.write_text("\n".join(lines), "utf-8")
    return read(place)


@cache
def declared(columns: tuple[str, ...] = ("a", "b"), **more: str) -> Dataset:
    """The same for properties, which need it hundreds of times."""
    with tempfile.TemporaryDirectory() as folder:
        return declare(Path(folder), columns, **more)


def all_of(dataset: Dataset, content: bytes) -> list[Row | BadRow]:
    return list(checked(dataset, io.BytesIO(content)))


def good(dataset: Dataset, content: bytes) -> list[list[str]]:
    return [list(row.values) for row in all_of(dataset, content) if isinstance(row, Row)]


def bad(dataset: Dataset, content: bytes) -> list[tuple[int, str, bytes]]:
    return [(row.line, row.error.code, row.raw) for row in all_of(dataset, content) if isinstance(row, BadRow)]


def refused(dataset: Dataset, content: bytes) -> str:
    with pytest.raises(RefusedFile) as caught:
        survey(dataset, io.BytesIO(content))
    return caught.value.code


# --- lines and fields ---


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("last", [True, False])
def test_lines_end_in_any_way_and_the_last_one_need_not(tmp_path: Path, end: bytes, last: bool) -> None:
    dataset = declare(tmp_path)
    content = end.join([b"a,b", b"1,2", b"3,"]) + (end if last else b"")
    assert all_of(dataset, content) == [Row(2, ["1", "2"], True, b"1,2"), Row(3, ["3", ""], True, b"3,")]


def test_characters_that_python_takes_for_line_ends_are_none_in_a_file(tmp_path: Path) -> None:
    dataset = declare(tmp_path, encoding='"latin-1"')
    content = "a,b\n1,x\x85y\x0bz\x0c\x1c\n2,u\n".encode("latin-1")
    assert good(dataset, content) == [["1", "x\x85y\x0bz\x0c\x1c"], ["2", "u"]]


def test_rows_that_cannot_be_read_are_told_by_line_and_reason_and_the_others_go_on(tmp_path: Path) -> None:
    dataset = declare(tmp_path, ("id", "name", "note"), delimiter='"^"', quoting='"none"', encoding='"latin-1"')
    content = b"\n".join(
        [
            b"Name^ID^Note",
            b"Ana^1^",
            b'"Ana^2^',
            b"",
            b"Ana^4",
            b"Ana^5^^",
            "José^6^".encode(),
            "José^7^".encode("latin-1"),
            b'5" pipe^8^',
            b"Ana^^",
            b"Ana^10^",
        ]
    )
    assert bad(dataset, content) == [
        (3, "stray-quote", b'"Ana^2^'),
        (4, "blank-line", b""),
        (5, "wrong-columns", b"Ana^4"),
        (6, "wrong-columns", b"Ana^5^^"),
        (7, "suspected-utf8", "José^6^".encode()),
        (10, "empty-key", b"Ana^^"),
    ]
    assert good(dataset, content) == [
        ["1", "Ana", ""],
        ["7", "José", ""],
        ["8", '5" pipe', ""],
        ["10", "Ana", ""],
    ]
    found = survey(dataset, io.BytesIO(content))
    assert (found.lines, found.rows, found.good) == (11, 10, 4)


def test_bytes_that_the_encoding_lacks_make_a_bad_row(tmp_path: Path) -> None:
    dataset = declare(tmp_path, encoding='"cp1252"')
    assert bad(dataset, b"a,b\n1,\x81\n2,\x80\n") == [(2, "undecodable", b"1,\x81")]
    assert good(dataset, b"a,b\n1,\x81\n2,\x80\n") == [["2", "€"]]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    dataset = declare(tmp_path)
    assert good(dataset, b"\xef\xbb\xbfa,b\n1,2\n") == [["1", "2"]]


def test_one_column_may_hold_nothing_but_a_blank_line_is_none(tmp_path: Path) -> None:
    dataset = declare(tmp_path, ("a",))
    assert bad(dataset, b"a\n1\n\n2\n") == [(3, "blank-line", b"")]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (b'"x,y', "stray-quote"),
        (b'x",y', "stray-quote"),
        (b'"x"y,z', "stray-quote"),
        (b'x,"y""', "stray-quote"),
        (b'"x,y"', "wrong-columns"),
        (b'"x","y","z"', "wrong-columns"),
    ],
)
def test_quotes_that_make_no_sense_cost_their_own_row_only(tmp_path: Path, row: bytes, code: str) -> None:
    dataset = declare(tmp_path, multiline="true")
    content = b"a,b\n" + row + b"\n1,2\n3,4\n"
    assert bad(dataset, content) == [(2, code, row)]
    assert good(dataset, content) == [["1", "2"], ["3", "4"]]


def test_a_quoted_field_may_go_on_in_the_next_lines_only_where_that_is_declared(tmp_path: Path) -> None:
    content = b'a,b\n1,"x\r\ny"\n2,z\n'
    assert all_of(declare(tmp_path, multiline="true"), content) == [
        Row(2, ["1", "x\r\ny"], True, b'1,"x\r\ny"'),
        Row(4, ["2", "z"], True, b"2,z"),
    ]
    assert bad(declare(tmp_path), content) == [(2, "stray-quote", b'1,"x'), (3, "stray-quote", b'y"')]


def test_a_row_that_is_too_long_is_put_aside_without_holding_it_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "BLOCK", 64)
    monkeypatch.setattr(rows_module, "LONGEST_ROW", 100)
    monkeypatch.setattr(rows_module, "KEPT_OF_LONG_ROW", 10)
    dataset = declare(tmp_path)
    for end in (b"\n", b"\r\n", b"\r"):
        content = end.join([b"a,b", b"1,2", b"x" * 1000, b"3,4", b"y" * 101, b"5,6", b"z" * 300])
        assert bad(dataset, content) == [
            (3, "row-too-long", b"x" * 10),
            (5, "row-too-long", b"y" * 10),
            (7, "row-too-long", b"z" * 10),
        ]
        assert good(dataset, content) == [["1", "2"], ["3", "4"], ["5", "6"]]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.lists(st.one_of(texts, st.text('",\r\n;x ', max_size=6)), min_size=2, max_size=2), max_size=8),
    st.sampled_from([",", ";", "\t", "^", "|"]),
    st.sampled_from(["\r\n", "\n", "\r"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.integers(4, 40),
)
def test_what_the_csv_module_writes_is_read_exactly(
    table: list[list[str]],
    delimiter: str,
    end: str,
    quoting: Any,
    block: int,
) -> None:
    dataset = declared(delimiter=f"'{delimiter}'" if delimiter != "\t" else '"\\t"', multiline="true")
    out = io.StringIO(newline="")
    # Older versions of Python quote only those line ends that the writer itself uses.
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\r\n", quoting=quoting)
    writer.writerow(["a", "b"])
    lines = []
    for number, row in enumerate(table):
        row[0] = f"{number}{row[0]}"
        writer.writerow(row)
        lines.append(row)
    content = out.getvalue().encode()
    if end != "\r\n" and not any(char in cell for row in table for cell in row for char in "\r\n"):
        content = content.replace(b"\r\n", end.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "BLOCK", block)
        assert good(dataset, content) == lines
        assert bad(dataset, content) == []


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200).map(lambda raw: b"a,b\n" + raw), st.integers(1, 50))
def test_any_bytes_are_accounted_for_line_by_line(content: bytes, block: int) -> None:
    dataset = declared(rules="bad_share = 1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "BLOCK", block)
        found = all_of(dataset, content)
    assert [row.line for row in found] == list(range(2, len(content.splitlines()) + 1))
    assert [row.raw for row in found] == [line.rstrip(b"\r\n") for line in content.splitlines(keepends=True)[1:]]


# --- whole files ---


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (b"a,c", "header-mismatch"),
        (b"a", "header-mismatch"),
        (b"a,b,A", "header-mismatch"),
        (b'"a,b', "header-mismatch"),
        (b"a,b\xff", "header-mismatch"),
        (b"", "no-header"),
        (b"\n1,2", "no-header"),
        (b"\xff\xfea\x00", "wrong-encoding"),
    ],
)
def test_a_file_with_another_header_is_refused_as_a_whole(tmp_path: Path, header: bytes, code: str) -> None:
    assert refused(declare(tmp_path), header + (b"\n1,2\n" if header else b"")) == code


def test_columns_are_found_by_name_whatever_their_order_case_and_neighbours(tmp_path: Path) -> None:
    dataset = declare(tmp_path, ("key", "name = 'extra'\noptional = true", "value"))
    assert good(dataset, b"Value, KEY ,other\n1,a,x\n") == [["a", "", "1"]]
    assert good(dataset, b"key,extra,value\na,x,1\n") == [["a", "x", "1"]]
    strict = declare(tmp_path, rules='extra_columns = "refuse"')
    assert refused(strict, b"a,b,c\n1,2,3\n") == "header-mismatch"


def test_a_file_without_a_header_is_read_where_that_is_declared(tmp_path: Path) -> None:
    dataset = declare(tmp_path, header="false")
    assert good(dataset, b"1,2\n3\n") == [["1", "2"]]
    assert bad(dataset, b"1,2\n3\n") == [(2, "wrong-columns", b"3")]


def test_too_large_a_share_of_bad_rows_refuses_the_file_but_a_few_never_do(tmp_path: Path) -> None:
    dataset = declare(tmp_path, rules="bad_share = 0.1\nbad_rows = 3")
    assert survey(dataset, io.BytesIO(b"a,b\n" + b"x\n" * 3)).bad == {"wrong-columns": 3}
    assert refused(dataset, b"a,b\n" + b"x\n" * 4 + b"1,2\n" * 30) == "too-many-bad-rows"
    assert survey(dataset, io.BytesIO(b"a,b\n" + b"x\n" * 4 + b"1,2\n" * 36)).good == 36


def test_a_file_that_is_utf8_from_end_to_end_is_refused_where_another_encoding_is_declared(tmp_path: Path) -> None:
    dataset = declare(tmp_path, encoding='"latin-1"')
    assert refused(dataset, b"a,b\n" + "1,é\n".encode() * 11) == "wrong-encoding"
    mixed = b"a,b\n" + "1,é\n".encode() * 11 + "1,é\n".encode("latin-1") * 20
    assert survey(dataset, io.BytesIO(mixed)).bad == {"suspected-utf8": 11}


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def test_archives_are_told_by_content_and_each_member_has_its_own_header(tmp_path: Path) -> None:
    dataset = declare(tmp_path)
    plain = b"a,b\n1,2\n"
    assert good(dataset, gzip.compress(plain)) == [["1", "2"]]
    both = zipped(("one.csv", plain), ("folder/", b""), ("two", b"b,a\n3,4\nx\n5,6"))
    assert good(dataset, both) == [["1", "2"], ["4", "3"], ["6", "5"]]
    assert bad(dataset, both) == [(5, "wrong-columns", b"x")]
    assert [row.line for row in all_of(dataset, both)] == [2, 4, 5, 6]
    found = survey(dataset, io.BytesIO(both))
    assert (found.lines, found.members, found.rows) == (6, 2, 4)


def test_a16_a_dump_with_all_that_the_old_loader_stumbled_over_is_counted_exactly() -> None:
    """Reference art 5.7 A16, 1.7, 1.7b."""
    students = Datasets()["art_students"]
    names = [column.name for column in students.declaration.columns]
    header = "^".join([*names, "Filipino"])

    def row(ssid: int, first: str = "Ana") -> str:
        own = {"SSID": str(ssid), "StateAbbreviation": "CA", "FirstName": first}
        return "^".join([own.get(name, "") for name in names] + [""])

    lines = [header, *(row(number) for number in range(2, 25))]
    lines[3] = row(4, '"Ana')
    lines[7] = ""
    lines[11] = row(12).rpartition("^")[0]
    lines[15] = row(16) + "^^"
    first = b"\xef\xbb\xbf" + "\r\n".join(lines).encode("latin-1") + b"\r\n"
    second = "\n".join([header, *(row(number) for number in range(100, 124))]).encode("latin-1")
    content = zipped(("CA_students.csv", first), ("more.csv", second))
    assert [(line, code) for line, code, _ in bad(students, content)] == [
        (4, "stray-quote"),
        (8, "blank-line"),
        (12, "wrong-columns"),
        (16, "wrong-columns"),
    ]
    found = survey(students, io.BytesIO(content))
    assert (found.lines, found.members, found.rows, found.good) == (24 + 25, 2, 23 + 24, 19 + 24)
    ssids = [values[0] for values in good(students, content)]
    wanted = [number for number in range(2, 25) if number not in (4, 8, 12, 16)]
    assert ssids == [str(number) for number in [*wanted, *range(100, 124)]]


def test_damaged_archives_are_refused_before_a_row_counts(tmp_path: Path) -> None:
    dataset = declare(tmp_path)
    content = b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(5000))
    stored = bytearray(zipped(("x.csv", content), method=zipfile.ZIP_STORED))
    stored[stored.index(b"4321,")] ^= 1
    assert refused(dataset, bytes(stored)) == "damaged-archive"
    assert refused(dataset, zipped(("x.csv", content))[:-100]) == "damaged-archive"
    assert refused(dataset, zipped(("x.csv", content))[:10_000]) == "damaged-archive"
    packed = gzip.compress(content)
    assert refused(dataset, packed[:-4]) == "damaged-archive"
    assert refused(dataset, packed[:-8] + b"\0\0\0\0" + packed[-4:]) == "damaged-archive"
    assert refused(dataset, zipped()) == "unusable-archive"
    second_without = zipped(("one.csv", content), ("read.me", b"hello\nworld\n"))
    assert refused(dataset, second_without) == "header-mismatch"


def test_an_archive_that_unpacks_to_more_than_is_allowed_is_refused(tmp_path: Path) -> None:
    dataset = declare(tmp_path)
    bomb = zipped(("bomb", b"a,b\n" + b"0" * 50_000_000))
    with pytest.raises(RefusedFile) as caught:
        survey(dataset, io.BytesIO(bomb), limit=1_000_000)
    assert caught.value.code == "content-too-large"


def test_no_reason_quotes_what_a_row_holds(tmp_path: Path) -> None:
    columns = ("id", "name = 'n'\ntype = 'int'", "name = 't'\ntype = 'timestamp'")
    dataset = declare(tmp_path, columns, encoding='"latin-1"')
    content = b'id,n,t\nSECRET\nSECRET,SECRET,SECRET\n"SECRET,1\nSECR\xc3\xa9T,1,2\n,SECRET,\n'
    reasons = [str(row.error) for row in all_of(dataset, content) if isinstance(row, BadRow)]
    assert len(reasons) == 5
    assert not any("SECR" in reason for reason in reasons)


# --- records ---

TYPED = (
    "id",
    'name = "i"\ntype = "int"',
    'name = "l"\ntype = "long"\nempty = "null"',
    'name = "d"\ntype = "double"\nempty = "null"',
    'name = "b"\ntype = "boolean"',
    'name = "day"\ntype = "date"\nempty = "null"',
    'name = "at"\ntype = "timestamp"',
    'name = "s"\nempty = "null"',
)

typed_rows = st.fixed_dictionaries(
    {
        "id": texts.filter(bool),
        "i": st.integers(-(2**31), 2**31 - 1),
        "l": st.none() | st.integers(-(2**63), 2**63 - 1),
        "d": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "b": st.booleans(),
        "day": st.none() | st.dates(),
        "at": st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-8))])),
        "s": st.none() | texts.filter(bool),
    }
)


@settings(max_examples=200, deadline=None)
@given(typed_rows, st.none() | texts, st.integers(1, 2**40))
def test_a_record_is_the_bytes_that_avro_itself_would_write(fields: dict[str, Any], job: str | None, line: int) -> None:
    dataset = declared(TYPED)

    def text(value: Any) -> str:
        if isinstance(value, datetime | date):
            return value.isoformat()
        return "" if value is None else str(value)

    values = [text(fields[column.field]) for column in dataset.declaration.columns]
    body = dataset.encoder.body(values, line, ascii_only=all(value.isascii() for value in values))
    ours = prefix(dataset.header, job, FILE) + zigzag(line) + body
    theirs = io.BytesIO()
    record = {"job": job, "file": FILE, "line": line, **fields}
    fastavro.schemaless_writer(theirs, fastavro.parse_schema(dataset.schema), record)
    assert ours == dataset.header + theirs.getvalue()
    decoded = decode_record(ours, dataset.topic.schemas)
    assert isinstance(decoded, Record)
    assert (decoded.job, decoded.file, decoded.line, decoded.body) == (job, FILE, line, body)
    assert decoded.fields(dataset.readers) == fields | {"at": fields["at"].astimezone(UTC)}


@settings(max_examples=200, deadline=None)
@given(st.lists(texts | st.text(min_size=60, max_size=3000), min_size=2, max_size=2))
def test_a_record_of_strings_is_the_bytes_that_avro_itself_would_write(values: list[str]) -> None:
    dataset = declared()
    theirs = io.BytesIO()
    record = {"job": None, "file": FILE, "line": 7, "a": values[0], "b": values[1]}
    fastavro.schemaless_writer(theirs, fastavro.parse_schema(dataset.schema), record)
    body = dataset.encoder.body(values, 7, ascii_only="".join(values).isascii())
    assert prefix(dataset.header, None, FILE) + zigzag(7) + body == dataset.header + theirs.getvalue()


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("int", ["", "1.0", "2147483648", "1_000", " 1", "٣", "x"]),
        ("long", ["9223372036854775808", "0x10"]),
        ("double", ["nan", "inf", "1,5", "1e", "1_0.0"]),
        ("boolean", ["yes", "1", "T"]),
        ("date", ["2009-1-5", "20091130", "2009-02-30", "11/30/2009"]),
        ("timestamp", ["2026-01-01T00:00:00", "yesterday", "2026-13-01T00:00:00Z"]),
    ],
)
def test_a_value_that_is_not_exactly_of_its_type_makes_a_bad_row(tmp_path: Path, kind: str, wrong: list[str]) -> None:
    dataset = declare(tmp_path, ("a", f'name = "b"\ntype = "{kind}"'), delimiter='";"')
    content = "a;b\n" + "".join(f"1;{value}\n" for value in wrong)
    assert [code for _, code, _ in bad(dataset, content.encode())] == ["wrong-value"] * len(wrong)


def test_the_key_is_one_part_that_tells_columns_apart(tmp_path: Path) -> None:
    dataset = declare(tmp_path, ("a", "b"), key='["a", "b"]')
    assert dataset.encoder.key(["CA", "123"], 1) == "CA~123"
    keys = {dataset.encoder.key(values, 1) for values in (["a~", "b"], ["a", "~b"], ["a%7E", "b"], ["é", "b"])}
    assert len(keys) == 4
    with pytest.raises(RefusedRow, match="longer"):
        dataset.encoder.key(["x" * 1000, "y"], 1)


def test_the_body_does_not_depend_on_file_job_and_line(tmp_path: Path) -> None:
    dataset = declare(tmp_path)
    body = dataset.encoder.body(["1", "2"], 3, ascii_only=True)
    records = [
        decode_record(prefix(dataset.header, job, file) + zigzag(line) + body, dataset.topic.schemas)
        for job, file, line in (("one", FILE, 2), (None, FILE[::-1], 2_000_000))
    ]
    assert {record.body for record in records if isinstance(record, Record)} == {body}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_records_are_poison_or_records_and_never_a_crash(data: st.DataObject) -> None:
    dataset = declared(TYPED)
    body = dataset.encoder.body(["1", "2", "", "1.5", "true", "", "2026-01-01T00:00:00Z", ""], 1, ascii_only=True)
    raw = bytearray(prefix(dataset.header, "job", FILE) + zigzag(5) + body)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        found = decode_record(cut, dataset.topic.schemas)
        if isinstance(found, Record):
            found.fields(dataset.readers)
    except PoisonError:
        pass


def test_an_end_marker_stands_among_records_and_a_foreign_record_is_unknown(tmp_path: Path) -> None:
    dataset = declare(tmp_path)
    marker = EndMarker(file=FILE, dataset="feed", lines=b"", count=0, total=0, source="s", path=b"p", at=1)
    assert decode_record(avro.encode(marker), dataset.topic.schemas) == marker
    other = declare(tmp_path, ("x",), name="other")
    with pytest.raises(avro.UnknownSchema):
        decode_record(prefix(other.header, None, FILE) + b"\x02", dataset.topic.schemas)


# --- declarations ---


@pytest.mark.parametrize(
    ("columns", "more", "told"),
    [
        (("a", "a"), {}, "two columns have the column name 'a'"),
        (("a", "A"), {}, "two columns have the column name 'a'"),
        (("a-b", "a b"), {}, "two columns have the field name 'a_b'"),
        (("file",), {}, "column file: every record has a field 'file' already"),
        (("1st",), {}, "column 1st: '1st' is no name for a field"),
        (("a",), {"key": '["z"]'}, "the key names 'z', which is no column; there are: a"),
        (("a",), {"encoding": '"utf-16"'}, "encoding: 'utf-16' is no encoding in which ASCII stays ASCII"),
        (("a",), {"encoding": '"klingon"'}, "encoding: Python knows no encoding 'klingon'"),
        (("a",), {"delimiter": '"||"'}, "delimiter: it must be one ASCII character"),
        (("a", 'name = "b"\ntype = "money"'), {}, "column b.type: Input should be 'string', 'int'"),
        (("a",), {"colour": '"red"'}, "colour: Extra inputs are not permitted"),
        (("a",), {"rules": "shrink = 2"}, "rules.shrink: Input should be less than or equal to 1"),
        (("a",), {"schema": '"../x.avsc"'}, "no .avsc file beside this one"),
        (("a",), {"schema": '"gone.avsc"'}, "gone.avsc: No such file"),
        (("a",), {"quoting": '"none"', "multiline": "true"}, "multiline needs quoting"),
    ],
)
def test_a_wrong_declaration_is_refused_with_the_place_and_the_reason(
    tmp_path: Path, columns: Sequence[str], more: dict[str, Any], told: str
) -> None:
    with pytest.raises(DatasetMalformed) as caught:
        declare(tmp_path, columns, **more)
    assert told in str(caught.value)
    assert "feed.toml" in str(caught.value)


def test_a_schema_of_ones_own_may_add_words_but_not_change_types(tmp_path: Path) -> None:
    own = tmp_path / "own.avsc"
    identity = '{"type": "fixed", "name": "Id", "size": 16, "namespace": "headrace"}'
    text = (
        '{"type": "record", "name": "Mine", "namespace": "org.example", "doc": "mine", "fields": ['
        '{"name": "job", "type": ["null", "string"], "default": null}, {"name": "file", "type": %s},'
        '{"name": "line", "type": "long"}, {"name": "a", "type": "string", "doc": "said of a"},'
        '{"name": "b", "type": "%s"}]}'
    )
    own.write_text(text % (identity, "string"))
    dataset = declare(tmp_path, schema='"own.avsc"')
    assert dataset.schema["name"] == "Mine"
    own.write_text(text % (identity, "long"))
    with pytest.raises(DatasetMalformed, match="its fields must be job"):
        declare(tmp_path, schema='"own.avsc"')


def test_a_folder_of_ones_own_adds_datasets_and_may_not_redefine_one(tmp_path: Path) -> None:
    declare(tmp_path)
    found = Datasets(tmp_path)
    assert {"feed", "readings", "art_students", "art_schools"} <= set(found)
    assert found["feed"].topic.name == "records.feed"
    with pytest.raises(UnknownDataset, match=r"no dataset nope\. Known datasets: art_schools, art_students"):
        found.named("nope")
    declare(tmp_path, name="readings")
    with pytest.raises(DatasetTwice):
        Datasets(tmp_path)


def test_records_of_an_older_declaration_can_still_be_read(tmp_path: Path) -> None:
    import json

    before = declare(tmp_path)
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "feed.1.avsc").write_text(json.dumps(before.schema))
    after = declare(tmp_path, ("a", "b", "c"))
    body = before.encoder.body(["1", "2"], 1, ascii_only=True)
    record = decode_record(prefix(before.header, None, FILE) + b"\x02" + body, after.topic.schemas)
    assert isinstance(record, Record)
    assert record.fields(after.readers) == {"a": "1", "b": "2"}


def test_the_students_are_personal_kept_two_days_and_keyed_by_state_and_ssid() -> None:
    students = Datasets()["art_students"]
    assert students.declaration.personal
    assert students.topic.retention == timedelta(days=2)
    assert len(students.declaration.columns) == 29
    assert students.declaration.key == ["StateAbbreviation", "SSID"]


def test_schools_are_read_as_the_reference_shows_them() -> None:
    sample = (
        "County-District Code^School Code^Auth CDS Code^County Name^District Name^School Name^Charter School"
        "^Charter Status^NPS School\n"
        "9900123^9900123^99001230000000^Lakeland^Riverbend Unified^Riverbend Unified^N^^N\n"
        "9900123^0456800^99007770456800^Lakeland^Riverbend Unified^Hillside Charter^Y^Active^N\n"
    )
    schools = Datasets()["art_schools"]
    assert good(schools, sample.encode("latin-1")) == [
        ["9900123", "9900123", "99001230000000", "Riverbend Unified", "Riverbend Unified"],
        ["9900123", "0456800", "99007770456800", "Riverbend Unified", "Hillside Charter"],
    ]


# --- the command ---


def test_check_tells_what_would_be_read_and_ends_with_what_scripts_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "r.csv"
    check = ["dataset", "check", str(file), "--dataset", "readings"]
    file.write_text("station,sensor,time,value\na,b,2026-01-01T00:00:00Z,1.5\n")
    assert run(check) == 0
    file.write_text("station,sensor,time,value\na,b,2026-01-01T00:00:00Z,1.5\na,b,noon,1.5\n")
    assert run(check) == 3
    out = capsys.readouterr().out
    assert "3 lines: 1 records, 1 rows refused" in out
    assert "Line 3: column 'time' is no timestamp" in out
    file.write_text("nothing\n")
    assert run([*check, "--json"]) == 1
    assert '"header-mismatch"' in capsys.readouterr().out
    assert run(["dataset", "check", str(tmp_path / "gone"), "--dataset", "readings"]) == 2
    assert run(["dataset", "check", str(file), "--dataset", "nope"]) == 2


def test_check_shows_no_personal_value_unless_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    students = Datasets()["art_students"].declaration
    file = tmp_path / "students.csv"
    names = [column.name for column in students.columns]
    row = ["CA" if name == "StateAbbreviation" else f"value-of-{name}" for name in names]
    file.write_text("^".join(names) + "\n" + "^".join(row) + "\nvalue-of-nothing\n")
    check = ["dataset", "check", str(file), "--dataset", "art_students"]
    assert run(check) == 3
    assert "value-of" not in capsys.readouterr().out
    assert run([*check, "--unmask"]) == 3
    assert "value-of-FirstName" in capsys.readouterr().out
