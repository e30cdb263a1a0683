"""The how-to "add a CSV feed" works as it is written."""

from __future__ import annotations

import io
import re
from pathlib import Path

from headrace.datasets.catalogue import read
from headrace.datasets.declaration import Column, Declaration, Rules
from headrace.datasets.survey import survey

PAGE = Path(__file__).parents[2] / "docs/how-to/add-a-csv-feed.md"


def test_its_declaration_reads_its_file(tmp_path: Path) -> None:
    (declaration,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (content,) = re.findall(r"```csv\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (tmp_path / "levels.toml").write_text(declaration, "utf-8")
    found = survey(read(tmp_path / "levels.toml"), io.BytesIO(content.encode()))
    assert (found.good, found.bad.total()) == (3, 0)


def test_it_tells_of_everything_that_can_be_declared() -> None:
    told = set(re.findall(r"`([a-z_.]+)`", PAGE.read_text("utf-8")))
    names = set(Declaration.model_fields) - {"name", "purpose", "columns", "rules", "schema_file"} | {"schema"}
    assert names | {f"rules.{name}" for name in Rules.model_fields} | set(Column.model_fields) <= told
