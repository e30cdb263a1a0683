"""Settings as the console shows and changes them, without a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import ConfigError
from headrace_ops.console.settings_view import SettingsNow

SECRET = "xyzzy-nobody-sees-this"
TEXT = f"""
[log]
level = "loud"

[art]
username = "loader"
client_id = "x"
password = "{SECRET}"
url = "https://ann:{SECRET}@art.example/rest"
"""


@pytest.fixture
def now(tmp_path: Path) -> SettingsNow:
    file = tmp_path / "headrace.toml"
    file.touch(0o600)
    file.write_text(TEXT)
    return SettingsNow(file)


def test_what_is_wrong_in_the_file_is_shown_at_its_place_and_can_be_mended(now: SettingsNow) -> None:
    with pytest.raises(ConfigError):
        now.session()
    assert {"log", "art"} <= set(now.names())
    (row,) = now.shown("log").told
    assert (row.name, row.value) == ("level", "loud")
    assert row.problem is not None
    form = now.form("log")
    assert now.save("log", {"level": "debug"}, form.mark).well
    assert now.session().settings.log.level == "debug"


def test_secrets_are_told_as_set_or_not_and_no_value_that_holds_one_is_shown_or_changed(now: SettingsNow) -> None:
    rows = {row.name: row for row in now.shown("art").rows}
    assert (rows["password"].value, rows["client_secret"].value) == ("set", "not set")
    form = now.form("art")
    assert form.secrets == {"password": True, "client_secret": False}
    (url,) = [each for each in form.inputs if each.setting.name == "url"]
    assert (url.hidden, url.value) == (True, "")
    said = {"username": "other", "client_id": "x", "url": "https://mine.example", "password": "mine"}
    assert now.save("art", said, form.mark).well, "what cannot be set here is not in the way"
    assert now.path().read_text() == TEXT.replace("loader", "other")
    assert SECRET not in repr((now.shown("art"), form.inputs, rows))
