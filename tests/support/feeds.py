"""Declarations of small datasets, as a user writes them."""

from __future__ import annotations

from pathlib import Path


def declare(folder: Path, name: str, columns: str, *, rules: str = "", extra: str = "") -> None:
    """Write the declaration of a dataset into a folder that is made if need be.

    Parameters:
        columns: a letter a column; the first is the key.
        rules, extra: more lines of TOML, of its rules and of the dataset itself.
    """
    folder.mkdir(exist_ok=True)
    listed = "\n".join(f'[[columns]]\nname = "{column}"' for column in columns)
    head = f'name = "{name}"\npurpose = "a test"\nkey = ["{columns[0]}"]\n{extra}\n'
    (folder / f"{name}.toml").write_text(f"{head}[rules]\n{rules}\n{listed}\n", "utf-8")
