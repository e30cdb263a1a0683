"""Reads the assignments of a Python settings module as data: constants, tables, texts joined by plus."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.errors import ConfigError

LARGEST = 1024 * 1024


class OldSettingsUnreadable(ConfigError):
    """The old settings {path} cannot be read: {problem}."""

    code = "old-settings-unreadable"


@dataclass(frozen=True)
class Old:
    """What a module assigns by name, and the lines that are no such assignment."""

    values: dict[str, Any]
    skipped: tuple[int, ...]


class _NotPlain(Exception):
    """An expression that would have to be executed."""


def read(path: Path) -> Old:
    """Read a settings module; it is parsed, never run.

    Raises OldSettingsUnreadable if it is no Python or cannot be read.
    """
    try:
        content = path.read_bytes()
        if len(content) > LARGEST:
            raise OldSettingsUnreadable(path=path, problem="it is too large for settings")
        body = ast.parse(content).body
    except OSError as error:
        raise OldSettingsUnreadable(path=path, problem=error.strerror) from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        where = f"line {line} is no Python" if line else "it is no Python"
        raise OldSettingsUnreadable(path=path, problem=where) from None
    values: dict[str, Any] = {}
    skipped = []
    for statement in body:
        try:
            values.update(_assigned(statement, values))
        except (_NotPlain, RecursionError):
            skipped.append(statement.lineno)
    return Old(values, tuple(skipped))


def _assigned(statement: ast.stmt, known: dict[str, Any]) -> dict[str, Any]:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return {}  # a docstring
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets: list[ast.expr] = [statement.target]
        value = _value(statement.value, known)
    elif isinstance(statement, ast.Assign):
        targets, value = statement.targets, _value(statement.value, known)
    else:
        raise _NotPlain
    if not all(isinstance(target, ast.Name) for target in targets):
        raise _NotPlain
    return {target.id: value for target in targets if isinstance(target, ast.Name)}


def _value(node: ast.expr, known: dict[str, Any]) -> Any:
    """The value of an expression that needs no execution."""
    if isinstance(node, ast.Name) and node.id in known:
        return known[node.id]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _value(node.left, known), _value(node.right, known)
        if not isinstance(left, str) or not isinstance(right, str):
            raise _NotPlain
        return left + right
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [_value(key, known) for key in node.keys if key is not None]
        if not all(isinstance(key, str | int) for key in keys):
            raise _NotPlain
        return dict(zip(keys, [_value(each, known) for each in node.values], strict=True))
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError) as error:
        raise _NotPlain from error
