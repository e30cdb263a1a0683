"""The command line from outside: what it prints, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from headrace import __version__
from headrace.cli import run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_version_is_told(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"headrace {__version__}\n"


def test_help_names_every_command_without_importing_any(here):
    code = (
        "import sys; from headrace.cli import run; run(['--help']); "
        "heavy = {'pydantic', 'confluent_kafka', 'structlog', 'boto3', 'obstore', 'msgspec'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.rstrip().endswith("[]")
    for name in ("watch", "upload", "assemble", "archive", "verify", "up", "run", "topics", "config", "broker"):
        assert f" {name} " in out


def test_a_wrong_setting_is_one_line_and_exit_code_2(here, capsys):
    (here / "headrace.toml").write_text("[kafka]\nbootstap = 'x'\n")
    assert run(["config", "show"]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith("headrace: There is no setting kafka.bootstap (")
    assert found.err.count("\n") == 1


def test_debug_adds_where_it_came_from_and_keeps_the_exit_code(here, capsys):
    assert run(["--debug", "run", "nothing"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_unknown_command_and_an_unknown_option_are_exit_code_2(here, capsys):
    assert run(["nothing"]) == 2
    assert run(["topics", "list", "--nothing"]) == 2


def test_a_missing_settings_file_is_named(here, capsys):
    assert run(["--config", "nothing.toml", "config", "show"]) == 2
    assert "nothing.toml (--config)" in capsys.readouterr().err


def test_config_show_hides_secrets_and_tells_where_values_came_from(here, capsys, monkeypatch):
    (here / "headrace.toml").write_text('[kafka]\nprefix = "p."\n[archiver]\nbucket = "archive"\nsecret_key = "hush"\n')
    (here / "headrace.toml").chmod(0o600)
    monkeypatch.setenv("HEADRACE_KAFKA__SASL_PASSWORD", "hush")
    assert run(["--bootstrap", "kafka:9092", "config", "show", "--json"]) == 0
    out = capsys.readouterr().out
    assert "hush" not in out
    shown = json.loads(out)
    assert shown["kafka.bootstrap"] == {"value": "kafka:9092", "from": "command line"}
    assert shown["kafka.prefix"] == {"value": "p.", "from": f"{here / 'headrace.toml'}:2"}
    assert shown["kafka.sasl_password"]["from"] == "environment HEADRACE_KAFKA__SASL_PASSWORD"
    assert shown["kafka.partitions"] == {"value": 6, "from": "default"}
    assert shown["archiver.bucket"]["value"] == "archive"
    assert not any(name.startswith("assembler.") for name in shown)


def test_config_show_says_what_a_chosen_service_still_needs(here, capsys):
    (here / "headrace.toml").write_text('[up]\nservices = ["assembler"]\n')
    assert run(["config", "show", "assembler"]) == 0
    assert "not set, and needed" in capsys.readouterr().out


def test_config_check_tells_the_truth_in_words_and_exit_code(here, capsys):
    (here / "in").mkdir()
    (here / "file").write_text("")
    text = '[directory_source]\nroot = "in"\n[assembler.good]\nroot = "out"\n[assembler.bad]\nroot = "file"\n'
    (here / "headrace.toml").write_text(text)
    assert run(["config", "check", "--json"]) == 1
    results = {each["check"]: each["well"] for each in json.loads(capsys.readouterr().out)}
    assert results["directory_source: root"] is True
    assert results["assembler.good: root"] is True
    assert results["assembler.bad: root"] is False
    assert not (here / "out").exists()


def test_up_refuses_to_start_anything_while_one_service_has_wrong_settings(here, capsys):
    (here / "headrace.toml").write_text('[up]\nservices = ["assembler.a", "assembler.b"]\n[assembler.a]\nroot = "a"\n')
    assert run(["up"]) == 2
    assert "[assembler.b]" in capsys.readouterr().err
    assert not (here / "a").exists()


def test_up_refuses_copies_that_would_share_a_metrics_port(here, capsys):
    text = '[up]\nservices = ["assembler", "assembler"]\n[assembler]\nroot = "a"\nmetrics_port = 9000\n'
    (here / "headrace.toml").write_text(text)
    assert run(["up"]) == 2
    assert "assembler.metrics_port" in capsys.readouterr().err


def test_up_with_nothing_chosen_says_how_to_choose(here, capsys):
    assert run(["up"]) == 2
    assert "services = […] under [up]" in capsys.readouterr().err


def test_topics_are_listed_without_a_kafka(here, capsys):
    assert run(["topics", "list", "--json"]) == 0
    listed = {row["topic"]: row for row in json.loads(capsys.readouterr().out)}
    assert "directory_source" in listed["headrace.chunks"]["writers"]
    assert "assembler" in listed["headrace.chunks"]["readers"]
