"""Editing headrace.toml by its settings' names: comments stay, secrets cannot be touched, nothing else moves."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from headrace.config import Duration, Section, Size, Sources, editing
from headrace.config.errors import NotEditable, SettingsFileChanged, SettingsFileNotWritten

TEXT = """\
# Of the office in the north.
[lab]
host = "old.example"    # until spring
wait = "10s"
password = "xyzzy"

[other]
a.b = 1
z = 2
"""


class Lab(Section):
    host: str = Field(description="The server.", min_length=2)
    port: int = Field(22, ge=1)
    share: float = 0.5
    wait: Duration
    size: Size = 1024
    quick: bool = False
    names: list[str] = Field([])
    grades: dict[str, str] = Field({})
    password: SecretStr | None = None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """It holds a secret, so only its owner can read it."""
    path = tmp_path / "headrace.toml"
    path.touch(0o600)
    return path


def sources(file: Path, text: str = TEXT, **environment: str) -> Sources:
    return Sources(file, {}, {}, {name.lower(): value for name, value in environment.items()}).with_text(file, text)


def change(text: str, **wanted: str) -> str:
    return editing.changed(text, "lab", Lab, wanted)


def test_only_what_was_changed_is_another_line() -> None:
    made = change(TEXT, host="new.example", wait="10s")
    assert made == TEXT.replace("old.example", "new.example")
    assert change(TEXT, host="old.example", port="") == TEXT


@pytest.mark.parametrize(
    ("name", "said", "written"),
    [
        ("port", "2222", "port = 2222"),
        ("size", "64MiB", 'size = "64MiB"'),
        ("quick", "true", "quick = true"),
        ("share", "0.25", "share = 0.25"),
        ("names", "a\n b \n\n", 'names = ["a", "b"]'),
        ("host", 'x" # no', r'host = "x\" # no"'),
    ],
)
def test_what_a_person_writes_becomes_a_value_of_its_kind(name: str, said: str, written: str, file: Path) -> None:
    made = change(TEXT, **{name: said})
    assert written in made
    assert editing.problems(sources(file, made), "lab", Lab) == {}


def test_names_and_values_a_line_become_a_table(file: Path) -> None:
    made = change(TEXT, grades="KN = KG\nUE=UG")
    assert sources(file, made).section("lab", Lab).values.grades == {"KN": "KG", "UE": "UG"}
    assert 'grades = {KN = "KG", UE = "UG"}' in made
    assert "# until spring" in made


def test_an_empty_value_takes_the_setting_out(file: Path) -> None:
    assert "wait" not in change(TEXT, wait=" ")
    assert editing.problems(sources(file, change(TEXT, wait="")), "lab", Lab) == {"wait": "it is needed"}


def test_a_section_that_is_not_there_is_added(file: Path) -> None:
    made = editing.changed("# ours\n", "lab.north", Lab, {"host": "north.example"})
    assert made.startswith("# ours\n")
    assert sources(file, made).tables == {"lab": {"north": {"host": "north.example"}}}


@pytest.mark.parametrize("name", ["password", "password_file", "no_such"])
def test_neither_a_secret_nor_the_file_that_holds_one_can_be_set(name: str, file: Path) -> None:
    with pytest.raises(NotEditable):
        change(TEXT, **{name: "/etc/shadow"})
    assert name not in {each.name for each in editing.editable(sources(file), "lab", Lab)}


def test_what_is_wrong_is_told_of_each_setting_and_never_shows_a_value(file: Path) -> None:
    text = change(TEXT, host="x", port="0")
    found = editing.problems(sources(file, text.replace('"10s"', '"10 parsecs"')), "lab", Lab)
    assert set(found) == {"host", "port", "wait"}
    assert "at least 2" in found["host"]
    assert "xyzzy" not in str(found)


def test_what_the_environment_says_wins_and_is_named(file: Path) -> None:
    found = {each.name: each for each in editing.editable(sources(file, HEADRACE_LAB__PORT="77"), "lab", Lab)}
    assert found["port"].elsewhere == "environment HEADRACE_LAB__PORT"
    assert (found["host"].elsewhere, found["host"].written, found["host"].needed) == (None, "old.example", True)
    assert (found["wait"].written, found["size"].default, found["quick"].choices) == ("10s", "1024", ("true", "false"))


def test_a_document_that_cannot_be_kept_is_refused_and_not_mangled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tomlkit.dumps", lambda _document: TEXT.replace("z = 2", "[y]\nz = 2"))
    with pytest.raises(NotEditable):
        change(TEXT, host="new.example")


def test_a_file_is_replaced_whole_with_its_rights_and_never_over_the_change_of_another(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text(TEXT)
    path.chmod(0o640)
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    text, mark = editing.read(link)
    editing.write(link, text + "# more\n", mark)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode), link.is_symlink()) == (TEXT + "# more\n", 0o640, True)
    with pytest.raises(SettingsFileChanged):
        editing.write(link, text, mark)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["headrace.toml", "link.toml"]


def test_a_new_file_can_be_read_by_its_owner_only_and_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    editing.write(path, TEXT, editing.read(path)[1])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(SettingsFileNotWritten):
        editing.write(tmp_path / "none" / "x.toml", TEXT, editing.read(tmp_path / "none" / "x.toml")[1])
