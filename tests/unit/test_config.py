"""Settings: which place wins, what is refused, and what the refusal says."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from headrace.config import Duration, Section, Size, Sources, format_duration
from headrace.config.errors import (
    InvalidSetting,
    MissingSetting,
    SecretFileMissing,
    SecretReadable,
    SettingsFileMalformed,
    SettingsFileMissing,
    UnknownInstance,
    UnknownSection,
    UnknownSetting,
)


class Painter(Section):
    root: Path = Field(description="Where to paint.")
    color: str = "red"
    wait: Duration = timedelta(seconds=5)
    chunk: Size = 1024
    brushes: list[str] = Field([])
    labels: dict[str, str] = Field({})
    password: SecretStr | None = None


@pytest.fixture
def read(tmp_path: Path):
    def _read(text: str = "", **environment: str) -> Sources:
        file = tmp_path / "headrace.toml"
        file.write_text(text)
        file.chmod(0o600)
        return Sources.read(file, known=["painter"], environment=environment)

    return _read


def painter(sources: Sources, name: str = "painter", **overrides: object) -> Painter:
    return sources.section(name, Painter, overrides).values


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(read):
    text = '[painter]\nroot = "/file"\ncolor = "file"\nbrushes = ["file"]\n'
    variables = {"HEADRACE_PAINTER__COLOR": "environment", "HEADRACE_PAINTER__BRUSHES": '["environment"]'}
    found = read(text, **variables).section("painter", Painter, {"brushes": ["line"], "root": None})
    assert (str(found.values.root), found.values.color, found.values.brushes) == ("/file", "environment", ["line"])
    assert found.origins["root"].endswith("headrace.toml:2")
    assert found.origins["color"] == "environment HEADRACE_PAINTER__COLOR"
    assert found.origins["brushes"] == "command line"
    assert "wait" not in found.origins


def test_an_instance_takes_what_its_service_says_and_changes_what_differs(read):
    text = '[painter]\nroot = "/a"\ncolor = "blue"\n[painter.site_b]\nroot = "/b"\n'
    sources = read(text, HEADRACE_PAINTER__SITE_B__CHUNK="4KiB")
    assert painter(sources, "painter.site_b") == Painter(root="/b", color="blue", chunk=4096)
    assert painter(sources) == Painter(root="/a", color="blue")
    assert sources.instances("painter", Painter) == ["site_b"]


def test_an_instance_that_nobody_described_is_refused_with_those_that_exist(read):
    with pytest.raises(UnknownInstance, match=r"\[painter\.site_c\].*painter\.site_b"):
        painter(read('[painter.site_b]\nroot = "/b"'), "painter.site_c")


def test_a_mistyped_setting_is_refused_with_its_line_and_the_valid_names(read):
    with pytest.raises(UnknownSetting, match=r"painter\.colour \(.*headrace\.toml:3\).*root, color, wait") as refusal:
        painter(read('[painter]\nroot = "/a"\ncolour = "blue"\n'))
    assert "password_file" in str(refusal.value)


def test_a_mistyped_variable_is_refused_by_its_name(read):
    with pytest.raises(UnknownSetting, match="environment HEADRACE_PAINTER__COLOUR"):
        painter(read('[painter]\nroot = "/a"', HEADRACE_PAINTER__COLOUR="blue"))


def test_an_unknown_section_is_refused_wherever_it_stands(read):
    with pytest.raises(UnknownSection, match=r"\[printer\].*headrace\.toml:1.*kafka.*painter"):
        read("[printer]\ncolor = 1\n")
    with pytest.raises(UnknownSection, match="environment HEADRACE_PRINTER__COLOR"):
        read(HEADRACE_PRINTER__COLOR="red")


def test_a_missing_setting_says_how_to_set_it(read):
    with pytest.raises(MissingSetting, match=r"Where to paint\. Set root under \[painter\].*HEADRACE_PAINTER__ROOT"):
        painter(read())


def test_a_wrong_value_is_refused_with_its_place(read):
    with pytest.raises(InvalidSetting, match=r"painter\.wait \(.*headrace\.toml:3\).*'fortnights'"):
        painter(read('[painter]\nroot = "/a"\nwait = "2 fortnights"\n'))


def test_a_list_in_the_environment_that_is_no_json_is_refused(read):
    with pytest.raises(InvalidSetting, match="JSON"):
        painter(read(HEADRACE_PAINTER__ROOT="/a", HEADRACE_PAINTER__BRUSHES="[a"))


def test_tables_of_several_places_are_merged(read):
    sources = read('[painter]\nroot = "/a"\nlabels = { a = "1", b = "1" }\n', HEADRACE_PAINTER__LABELS='{"b": "2"}')
    assert painter(sources).labels == {"a": "1", "b": "2"}


def test_a_settings_file_that_is_not_there_or_no_toml_is_refused(tmp_path, read):
    with pytest.raises(SettingsFileMissing, match="--config"):
        Sources.read(tmp_path / "none.toml", environment={})
    with pytest.raises(SettingsFileMissing, match="HEADRACE_CONFIG"):
        Sources.read(environment={"HEADRACE_CONFIG": str(tmp_path / "none.toml")})
    with pytest.raises(SettingsFileMalformed, match="line 1"):
        read("[painter\n")


@pytest.mark.parametrize("way", ["file", "environment"])
def test_a_secret_is_read_from_a_file_that_only_its_owner_can_read(read, tmp_path, way):
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    secret.chmod(0o600)
    if way == "file":
        sources = read(f'[painter]\nroot = "/a"\npassword_file = "{secret}"\n')
    else:
        sources = read('[painter]\nroot = "/a"', HEADRACE_PAINTER__PASSWORD_FILE=str(secret))
    assert painter(sources).password == SecretStr("hush")
    secret.chmod(0o644)
    with pytest.raises(SecretReadable, match=r"painter\.password.*0644.*chmod 600"):
        painter(sources)
    secret.unlink()
    with pytest.raises(SecretFileMissing, match=r"painter\.password"):
        painter(sources)


def test_a_secret_in_a_settings_file_that_others_can_read_is_refused(read, tmp_path):
    sources = read('[painter]\nroot = "/a"\npassword = "hush"\n')
    assert painter(sources).password == SecretStr("hush")
    (tmp_path / "headrace.toml").chmod(0o640)
    with pytest.raises(SecretReadable, match=r"painter\.password") as refusal:
        painter(sources)
    assert "hush" not in str(refusal.value)


def test_a_wrong_secret_is_refused_without_showing_it(read):
    with pytest.raises(InvalidSetting) as refusal:
        painter(read('[painter]\nroot = "/a"\npassword = ["hush"]\n'))
    assert "hush" not in str(refusal.value)


def test_secrets_among_kafka_properties_are_refused_with_the_field_to_use(read):
    with pytest.raises(InvalidSetting, match=r"kafka\.sasl_password"):
        read('[kafka.properties]\n"sasl.password" = "hush"\n').settings()


def test_kafka_secrets_reach_the_client(read):
    settings = read(HEADRACE_KAFKA__SASL_PASSWORD="hush").settings().values
    assert settings.kafka.client_properties() == {"sasl.password": "hush"}
    assert "hush" not in repr(settings)


def test_the_state_folder_follows_the_same_order(read):
    assert read('state = "/file"').settings().values.state == Path("/file")
    assert read('state = "/file"', HEADRACE_STATE="/variable").settings().values.state == Path("/variable")
    found = read('state = "/file"', HEADRACE_STATE="/variable").settings({"state": "/line"})
    assert (found.values.state, found.origins["state"]) == (Path("/line"), "command line")


@pytest.mark.parametrize(
    ("written", "seconds"), [("500ms", 0.5), ("90s", 90), ("15m", 900), ("24h", 86400), ("7d", 604800), (3, 3)]
)
def test_durations_are_written_with_their_unit(read, written, seconds):
    found = painter(read('[painter]\nroot = "/a"'), wait=written)
    assert found.wait == timedelta(seconds=seconds)
    assert painter(read(), root="/a", wait=format_duration(found.wait)).wait == found.wait


@pytest.mark.parametrize(("written", "size"), [("64MiB", 1 << 26), ("10GB", 10**10), ("512", 512), (7, 7)])
def test_sizes_are_written_with_their_unit(read, written, size):
    assert painter(read(), root="/a", chunk=written).chunk == size


def test_what_is_kept_of_a_topic_is_set_per_topic(read):
    text = '[topics.chunks]\nretention = "3d"\n'
    found = read(text, HEADRACE_TOPICS__CHUNKS__RETENTION_SIZE="1GiB").settings().values.topics["chunks"]
    assert (found.retention, found.retention_size) == (timedelta(days=3), 1 << 30)
