"""What the pages for people say is true: their links, commands and settings exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from headrace.cli import commands
from headrace.config import Sources
from headrace.families import stage_named, stages

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "services").rglob("README.md"))]


def pages() -> list[object]:
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES]


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: Path):
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    broken = [each for each in targets if "://" not in each and not (page.parent / each).exists()]
    assert broken == []


@pytest.mark.parametrize("page", pages())
def test_commands_exist(page: Path):
    named = set(re.findall(r"(?:^\s*|`)headrace ([a-z][a-z-]*)\b", page.read_text(), re.MULTILINE))
    assert named <= set(commands())


def test_the_settings_in_the_readme_are_valid(tmp_path):
    (text,) = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    secret = tmp_path / "secret"
    secret.write_text("hush")
    secret.chmod(0o600)
    file = tmp_path / "headrace.toml"
    file.write_text(re.sub(r'_file = "[^"]*"', f'_file = "{secret}"', text))
    sources = Sources.read(file, stages(), environment={})
    sources.settings()
    for name in tomllib.loads(text)["up"]["services"]:
        sources.section(name, stage_named(name).load_settings())
