"""Editing `headrace.toml`: which settings of a section can be edited, and writing them so that all else stays.

Secrets cannot be edited, nor which file holds one. tomlkit keeps comments and order, and is known to put keys into the
wrong table in documents with dotted keys (python-poetry/tomlkit issues 543 and 556): what it made is read again with
the standard library, and refused where it says anything but what was meant.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import tomlkit
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from tomlkit.exceptions import TOMLKitError

from headrace.config.errors import NotEditable, SettingsFileChanged, SettingsFileNotWritten
from headrace.config.model import Section
from headrace.config.sources import DEFAULT_FILE, Sources
from headrace.config.units import format_duration
from headrace.config.validation import is_secret

Kind = Literal["text", "choice", "lines", "pairs"]
"""How a value is written by a person: a line, one of a few words, a list with one a line, `name = value` lines."""


@dataclass(frozen=True, slots=True)
class Editable:
    """One setting that can be edited.

    Parameters:
        written: as it stands in the file, in the form of its kind; empty: the file does not say.
        default: what holds where nothing is said.
        elsewhere: where it was set that wins over the file, None if nowhere.
    """

    name: str
    kind: Kind
    description: str
    written: str
    default: str
    choices: tuple[str, ...] = ()
    needed: bool = False
    elsewhere: str | None = None


def editable(sources: Sources, section: str, model: type[Section]) -> list[Editable]:
    """The settings of a section that can be edited."""
    table = sources.written(section)
    _, origins = sources.merged(section, model)
    found = []
    for name, info in model.model_fields.items():
        kind = _kind(info)
        if kind is None:
            continue
        default = info.get_default(call_default_factory=True, validated_data={})
        where = origins.get(name, "")
        found.append(
            Editable(
                name, kind, info.description or "", as_written(table.get(name), kind),
                "" if default is PydanticUndefined else as_written(default, kind), _choices(info), info.is_required(),
                where if where.startswith(("environment", "command line")) else None,
            )
        )  # fmt: skip
    return found


def as_written(value: Any, kind: Kind) -> str:
    """A value as a person writes it."""
    if value is None:
        return ""
    if kind == "pairs":
        return "\n".join(f"{name} = {each}" for name, each in value.items())
    if kind == "lines":
        return "\n".join(str(each) for each in value)
    if isinstance(value, bool):
        return str(value).lower()
    return format_duration(value) if isinstance(value, timedelta) else str(value)


def changed(text: str, section: str, model: type[Section], wanted: Mapping[str, str]) -> str:
    """The settings file with these settings of a section as `wanted` says; an empty value takes a setting out.

    Raises NotEditable if one is a secret or otherwise not to be edited, ValueError if one has no such form.
    """
    place = section.split(".")
    kinds = {name: _kind(info) for name, info in model.model_fields.items()}
    values: dict[str, Any] = {}
    for name, value in wanted.items():
        kind = kinds.get(name)
        if kind is None:
            raise NotEditable(setting=f"{section}.{name}")
        values[name] = _value(value, kind, model.model_fields[name])
    before = _table(tomllib.loads(text), place)
    values = {name: value for name, value in values.items() if before.get(name) != value}
    if not values:
        return text
    meant = tomllib.loads(text)
    _put(meant, place, values)
    try:
        document = tomlkit.parse(text)
        _put(document, place, values)
        made = tomlkit.dumps(document)
        kept = tomllib.loads(made) == meant
    except (TOMLKitError, tomllib.TOMLDecodeError):
        kept = False
    if not kept:
        raise NotEditable(setting=section)
    return made


def problems(
    sources: Sources, section: str, model: type[Section], overrides: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """What is wrong with a section, by setting; what concerns several stands under an empty name.

    Raises what is wrong with its secrets' files.
    """
    values, _ = sources.merged(section, model, overrides)
    try:
        model.model_validate(values)
    except ValidationError as error:
        found: dict[str, str] = {}
        for each in error.errors(include_url=False, include_input=False):
            name = str(each["loc"][0]) if each["loc"] else ""
            message = "it is needed" if each["type"] == "missing" else str(each["msg"]).removeprefix("Value error, ")
            found.setdefault(name, message[:1].lower() + message[1:])
        return found
    return {}


def settings_file(sources: Sources) -> Path:
    """The file that is edited; where there is none, the one that would be looked for here."""
    return sources.file if sources.file is not None else Path(DEFAULT_FILE).absolute()


def read(path: Path) -> tuple[str, str]:
    """The text of a settings file, empty if it is not there, and its mark, which another text has not.

    Raises SettingsFileNotWritten if it cannot be read.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsFileNotWritten(path=path, problem=error) from error
    return text, hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def write(path: Path, text: str, mark: str) -> None:
    """Put a text in the place of the one with this mark, whole or not at all, with the same rights.

    Raises SettingsFileChanged, SettingsFileNotWritten.
    """
    if read(path)[1] != mark:
        raise SettingsFileChanged(path=path)
    try:
        # What a link points to, and not the link.
        target = path.resolve()
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                # The text may hold secrets, so only now, and never more than before.
                os.fchmod(file.fileno(), target.stat().st_mode & 0o777 if target.exists() else 0o600)
                os.fsync(file.fileno())
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise SettingsFileNotWritten(path=path, problem=error.strerror or error) from error


def _kind(info: FieldInfo) -> Kind | None:
    """How a field is edited, None if it is not."""
    if is_secret(info):
        return None
    kinds = _alternatives(info.annotation)
    if len(kinds) != 1:
        # Such as a number or "auto".
        return "text" if all(kind in (str, int) or get_origin(kind) is Literal for kind in kinds) else None
    (kind,) = kinds
    if kind is bool or get_origin(kind) is Literal:
        return "choice"
    if kind in (str, int, float, Path, timedelta):
        return "text"
    arguments = get_args(kind)
    if get_origin(kind) in (list, tuple):
        return "lines"
    return "pairs" if get_origin(kind) is dict and arguments == (str, str) else None


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [kind for each in get_args(annotation) for kind in _alternatives(each)]
        return [kind for kind in kinds if kind is not type(None)]
    # Annotated: what is annotated.
    return _alternatives(annotation.__origin__) if hasattr(annotation, "__metadata__") else [annotation]


def _choices(info: FieldInfo) -> tuple[str, ...]:
    kinds = _alternatives(info.annotation)
    if kinds == [bool]:
        return ("true", "false")
    return tuple(map(str, get_args(kinds[0]))) if len(kinds) == 1 and get_origin(kinds[0]) is Literal else ()


def _value(text: str, kind: Kind, info: FieldInfo) -> Any:
    """What a person wrote as a value of TOML, None if nothing."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    if kind == "lines":
        return lines
    if kind == "pairs":
        pairs = [line.partition("=") for line in lines]
        if any(not (name.strip() and equals) for name, equals, _ in pairs):
            raise ValueError("each line must be: name = value")
        return {name.strip(): value.strip() for name, _, value in pairs}
    if len(lines) > 1:
        raise ValueError("it must be one line")
    (line,) = lines
    kinds = _alternatives(info.annotation)
    if bool in kinds and line in ("true", "false"):
        return line == "true"
    if int in kinds and line.isascii() and line.isdigit():
        return int(line)
    if kinds == [float]:
        return float(line)
    return line


def _table(tables: Mapping[str, Any], place: list[str]) -> Mapping[str, Any]:
    for part in place:
        tables = tables.get(part, {})
    return tables


def _put(tables: Any, place: list[str], values: Mapping[str, Any]) -> None:
    """Set or take out values in a table, which is made if it is not there."""
    styled = isinstance(tables, tomlkit.TOMLDocument)
    for number, part in enumerate(place):
        if part not in tables:
            if all(value is None for value in values.values()):
                return
            tables[part] = tomlkit.table(is_super_table=number < len(place) - 1) if styled else {}
        tables = tables[part]
    for name, value in values.items():
        if styled and isinstance(value, dict):
            tables[name] = tomlkit.inline_table()
            tables[name].update(value)
        elif value is not None:
            tables[name] = value
        elif name in tables:
            del tables[name]
