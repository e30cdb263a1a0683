"""One wheel, in an empty environment with nothing but the locked dependencies, is a working Headrace."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from headrace import __version__

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (built,) = folder.glob("*.whl")
    return built


def locked() -> list[str]:
    """Names in the lock file of what users install, without those for other systems."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    wanted = [Requirement(line.rstrip("\\ ")) for line in lines if "==" in line and not line.startswith(("#", " "))]
    return [one.name for one in wanted if one.marker is None or one.marker.evaluate()]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with the wheel and the locked dependencies.

    The dependencies are linked from the environment that runs the tests, which holds the same versions: it needs no
    network and a second. What is not in the lock is not there.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for name in locked():
        found = distribution(name)
        for top in {file.parts[0] for file in found.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            link = packages / top
            if not link.exists():
                link.symlink_to(Path(str(found.locate_file(top))))
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "install", "--no-index", "--no-deps", str(wheel)], check=True, capture_output=True, timeout=60
    )
    return folder / "bin"


def run(program: Path, *arguments: str, folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HEADRACE"))}
    done = subprocess.run(
        [program, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_line_works(installed: Path, tmp_path: Path) -> None:
    assert run(installed / "headrace", "--version", folder=tmp_path).split() == ["headrace", __version__]
    assert "broker" in run(installed / "headrace", "--help", folder=tmp_path)


def test_the_old_command_names_are_there(installed: Path) -> None:
    for name in (
        "upload_data_file",
        "upload_data_files_added_to_directory",
        "reconstruct_data_files",
        "art_student_loader",
    ):
        assert (installed / name).exists()


def test_every_module_imports_without_the_tools_of_development(installed: Path, tmp_path: Path) -> None:
    program = """
import importlib, pkgutil
import headrace
from headrace.families import families
names = [family.name for family in families()]
roots = ["headrace", *(f"headrace_{name}" for name in names)]
modules = []
for root in roots:
    package = importlib.import_module(root)
    for found in pkgutil.walk_packages(package.__path__, root + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
            modules.append(found.name)
print(headrace.__file__)
print(*names)
print(len(modules))
"""
    where, families, count = run(installed / "python", "-c", program, folder=tmp_path).splitlines()
    assert where.startswith(str(installed.parent))
    assert "files" in families.split()
    assert int(count) > 40


def test_shipped_files_come_along(installed: Path, tmp_path: Path) -> None:
    program = """
from headrace.resources import resource
print(resource("deploy", "kafka", "pom.xml"))
print(*sorted(path.name for path in resource("schemas").glob("*.avsc")))
"""
    pom, schemas = run(installed / "python", "-c", program, folder=tmp_path).splitlines()
    assert pom.startswith(str(installed.parent))
    assert schemas.split() == sorted(path.name for path in (ROOT / "schemas").glob("*.avsc"))


def test_nothing_else_is_in_the_wheel(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert all(top.startswith("headrace") for top in tops), tops
    assert not [name for name in names if "/tests/" in name or name.endswith((".pyc", ".lock"))]


def test_the_console_comes_with_its_pages_and_with_the_licences_of_what_it_carries(wheel: Path) -> None:
    folder = "headrace_ops/console/"
    names = {name.removeprefix(folder) for name in zipfile.ZipFile(wheel).namelist() if name.startswith(folder)}
    own = ROOT / "services" / folder
    shipped = [path for place in ("static", "templates") for path in (own / place).rglob("*") if path.is_file()]
    assert {str(path.relative_to(own)) for path in shipped} <= names
    assert {"static/vendor/htmx-LICENSE.txt", "static/vendor/uPlot-LICENSE.txt"} <= names
