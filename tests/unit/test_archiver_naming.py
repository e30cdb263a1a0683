"""Objects' names: what a user finds in the bucket, and how to get the path back."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace_files.archiver.naming import KeyTooLong, Naming, UnsafePath, WrongTemplate, utc_date

FILE = "0123456789abcdef" * 2
OTHER = "f" * 32
NOON_2024 = 1_718_452_800_000_000_000
PARTS = (
    st.binary(min_size=1, max_size=40)
    .map(lambda raw: raw.replace(b"/", b"~"))
    .filter(lambda part: part not in (b".", b".."))
)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map(b"/".join)
SOURCES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)
TIMES = st.integers(-(2**63), 2**64 - 1)


def names(path: bytes, source: str = "lab", mtime: int = NOON_2024, file: str = FILE, template: str | None = None):
    return (Naming(template) if template else Naming()).names(source, path, mtime, file)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (b"runs/a b.csv", "lab/2024-06-15/runs/a b.csv"),
        (b"backup~", "lab/2024-06-15/backup~"),
        ("münchen/日本.txt".encode(), "lab/2024-06-15/münchen/日本.txt"),
        (b"100%.txt", "lab/2024-06-15/100%25.txt"),
        (b"tab\there\nthere", "lab/2024-06-15/tab%09here%0Athere"),
        (b"caf\xe9", "lab/2024-06-15/caf%E9"),
        (b"a\\b;c", "lab/2024-06-15/a\\b;c"),
        (b"a~" + OTHER.encode(), f"lab/2024-06-15/a%7E{OTHER}"),
        ("\u2028\uffff\x85".encode(), "lab/2024-06-15/%E2%80%A8%EF%BF%BF%C2%85"),
    ],
)
def test_a_path_is_readable_in_the_bucket_and_odd_bytes_are_percent_encoded(path, key):
    assert names(path).plain == key


def test_another_version_of_a_path_stands_beside_it_with_its_file_id():
    assert names(b"runs/a.csv").versioned == f"lab/2024-06-15/runs/a.csv~{FILE}"


@pytest.mark.parametrize("path", [b"/etc/passwd", b"a//b", b"a/", b"../b", b"a/../b", b"a/./b", b".", b".."])
def test_what_is_no_relative_path_is_refused(path):
    with pytest.raises(UnsafePath):
        names(path)


def test_a_source_is_one_folder_whatever_it_is_called():
    assert names(b"x", source="..").plain == "%2E%2E/2024-06-15/x"
    assert names(b"x", source="a/../b").plain == "a%2F..%2Fb/2024-06-15/x"
    with pytest.raises(UnsafePath):
        names(b"x", source="")


def test_a_name_over_1024_bytes_is_refused_even_if_only_its_versioned_form_is_too_long():
    fits = 1024 - len(f"lab/2024-06-15/~{FILE}")
    assert len(names(b"p" * fits).versioned) == 1024
    with pytest.raises(KeyTooLong):
        names(b"p" * (fits + 1))
    with pytest.raises(KeyTooLong):
        names(b"\xff" * (fits // 3 + 1))


@pytest.mark.parametrize(
    "template",
    ["{path}", "{source}/{date}", "{source}/{path}/{path}", "{source}-{path}", "{source}/{user}/{path}",
     "/{source}/{path}", "{source}x/{path}", "{source}/../{path}", "a%2F/{source}/{path}", "{source}/{0}/{path}"],
)  # fmt: skip
def test_a_template_by_which_two_files_could_share_a_name_is_refused(template):
    with pytest.raises(WrongTemplate):
        Naming(template)


def test_the_date_is_the_day_in_utc_for_every_time_of_64_bits():
    assert utc_date(NOON_2024).isoformat() == "2024-06-15"
    assert utc_date(-1).isoformat() == "1969-12-31"
    assert utc_date(2**64 - 1).year == 2554
    assert utc_date(-(2**63)).year == 1677


@given(SOURCES, PATHS, TIMES)
@example("a/b", b"x~" + OTHER.encode(), 0)
@example("~", b"~", 0)
@example("%2F", b"%2F", 0)
def test_every_name_can_be_turned_back_into_its_path(source, path, mtime):
    for template in ("{source}/{date}/{path}", "raw/{date}-x/{source}/{path}", "{source}/{path}"):
        naming = Naming(template, "kept/{here}/")
        made = naming.names(source, path, mtime, FILE) if len(path) + len(source) < 100 else None
        if made is None:
            continue
        for key, file in ((made.plain, None), (made.versioned, FILE)):
            found = naming.parse(key)
            assert found is not None
            assert (found.source, found.path, found.file) == (source, path, file)
            assert found.date in (None, utc_date(mtime))


@given(SOURCES, SOURCES, PATHS, PATHS)
@example("a", "a", b"x", b"x~" + FILE.encode())
def test_two_paths_never_share_a_name(source, other_source, path, other_path):
    first, second = names(path, source), names(other_path, other_source, file=OTHER)
    if (source, path) != (other_source, other_path):
        assert not {first.plain, first.versioned} & {second.plain, second.versioned}
    else:
        assert first.plain == second.plain
        assert first.versioned != second.versioned


@given(SOURCES, PATHS)
def test_a_name_has_no_part_that_a_file_system_or_a_listing_would_take_for_something_else(source, path):
    key = names(path, source).plain
    assert not {"", ".", ".."} & set(key.split("/"))
    assert all(character >= " " and character != "\x7f" for character in key)
    key.encode("utf-8")
