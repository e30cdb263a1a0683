"""The reference pages say what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from headrace.cli import commands
from headrace.config import Settings
from headrace.config.validation import section_models
from headrace.families import catalogue, sections, stages

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "reference"


def test_no_page_is_stale():
    script = DOCUMENTATION / "generate.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_setting_command_and_topic_has_its_place_and_its_sentence():
    settings, topics = (DOCUMENTATION / "settings.md").read_text(), (DOCUMENTATION / "topics.md").read_text()
    pages = (DOCUMENTATION / "commands.md").read_text()
    entries = {**sections(), **stages()}
    models = {**section_models(Settings), **{name: entry.load_settings() for name, entry in entries.items()}}
    for section, model in models.items():
        assert f"## [{section}]" in settings
        for name, info in model.model_fields.items():
            assert info.description, f"{section}.{name} has no description"
            assert f"| `{name}`" in settings
    for name in commands():
        assert f"## headrace {name}" in pages
    for topic in catalogue():
        assert f"## {topic.name}" in topics
