"""The systemd units: systemd understands them, they are locked down, and what they run exists."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HEADRACE = Path(sys.executable).parent / "headrace"
UNITS = sorted((Path(__file__).parents[2] / "deploy" / "systemd").iterdir())
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
EXPOSURE_AT_MOST = 2.0
"""Of 10, as systemd-analyze rates it; 2.0 and less is "OK", a service without any of it has 9.6."""

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def here(folder: Path) -> list[Path]:
    """The units with the command of this environment, since systemd looks whether it is there."""
    copies = []
    for unit in UNITS:
        copy = folder / unit.name
        copy.write_text(unit.read_text().replace("/opt/headrace/bin/headrace", str(HEADRACE)))
        copies.append(copy)
    return copies


@needs_systemd
def test_systemd_understands_them(tmp_path: Path) -> None:
    named = [str(copy).replace("@.", "@assembler.") for copy in here(tmp_path)]
    (tmp_path / "headrace@assembler.service").symlink_to("headrace@.service")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *named], capture_output=True, text=True, check=False, timeout=60
    )
    assert [line for line in done.stderr.splitlines() if str(tmp_path) in line or "headrace" in line] == []


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_they_are_locked_down(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= EXPOSURE_AT_MOST, done.stdout


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_the_commands_that_they_run_exist(unit: Path) -> None:
    (words,) = re.findall(r"^ExecStart=/opt/headrace/bin/headrace --config \S+ (.+)$", unit.read_text(), re.MULTILINE)
    named = itertools.takewhile(lambda word: not word.startswith("-"), words.replace("%i", "assembler").split())
    done = subprocess.run([HEADRACE, *named, "--help"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
