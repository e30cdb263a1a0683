"""Where settings come from: `headrace.toml` < environment (`HEADRACE_KAFKA__BOOTSTRAP`) < command line.

A section has the name of its service: `[assembler]`. Several instances of one service are tables inside it,
`[assembler.site_b]`: an instance takes what `[assembler]` says and changes what differs. Source: design section 5.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from headrace.config.errors import (
    InvalidSetting,
    SettingsFileMalformed,
    SettingsFileMissing,
    UnknownInstance,
    UnknownSection,
)
from headrace.config.lines import Place, lines_of
from headrace.config.model import Section, Settings
from headrace.config.secret_files import check_private, read_secret
from headrace.config.validation import (
    DELIMITER,
    PREFIX,
    is_secret,
    secret_target,
    section_models,
    validate,
    variable_name,
)

DEFAULT_FILE = "headrace.toml"

_INSTANCE = re.compile(r"[a-z][a-z0-9_]*")

Model = TypeVar("Model", bound=Section)


@dataclass(frozen=True)
class Layer:
    """The values of one section from one place: `where` says of each, by its name, where it stands."""

    values: Mapping[str, Any]
    where: Mapping[str, str]


@dataclass(frozen=True)
class Resolved(Generic[Model]):
    """A section's settings, and where each came from, by field name; a field that is not named has its default."""

    values: Model
    origins: Mapping[str, str]


@dataclass(frozen=True)
class Sources:
    """Everything that is set on this machine, read once.

    `known` are the names of the sections that services may have; `None` leaves unknown ones alone.
    """

    file: Path | None
    tables: Mapping[str, Any]
    lines: Mapping[Place, int]
    environment: Mapping[str, str]
    known: frozenset[str] | None = None

    @classmethod
    def read(
        cls,
        file: Path | None = None,
        known: Iterable[str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Sources:
        """Read the settings file and the environment.

        Parameters:
            file: the settings file; by default `$HEADRACE_CONFIG`, else `headrace.toml` here, if there is one.
            known: names of the services' sections, beside the spine's own.
            environment: by default that of this process.

        Raises SettingsFileMissing, SettingsFileMalformed, UnknownSection.
        """
        variables = dict(os.environ if environment is None else environment)
        named = file or (Path(variables[PREFIX + "CONFIG"]) if variables.get(PREFIX + "CONFIG") else None)
        path = named or Path(DEFAULT_FILE)
        where = "--config" if file else f"{PREFIX}CONFIG"
        text = ""
        try:
            text = path.read_text("utf-8")
            tables = tomllib.loads(text)
        except FileNotFoundError as error:
            if named is not None:
                raise SettingsFileMissing(path=path, where=where, problem="there is no such file") from error
            tables = {}
        except OSError as error:
            raise SettingsFileMissing(path=path, where=where, problem=error.strerror) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsFileMalformed(path=path, problem=error) from error
        settings = {name.lower(): value for name, value in variables.items() if name.startswith(PREFIX) and value}
        found = path.absolute() if text or named else None
        sources = cls(found, tables, lines_of(text), settings, None if known is None else frozenset(known))
        sources._check_sections()
        return sources

    def settings(self, overrides: Mapping[str, Any] | None = None) -> Resolved[Settings]:
        """The settings of the spine. `overrides` are from the command line: `{"kafka": {"bootstrap": …}}`."""
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        given = dict(overrides or {})
        for name, model in section_models(Settings).items():
            part = self.section(name, model, given.pop(name, {}))
            values[name] = part.values
            origins |= {f"{name}.{field_name}": where for field_name, where in part.origins.items()}
        for name in set(Settings.model_fields) - set(section_models(Settings)):
            for value, where in self._plain_layers(name, given):
                old = values.get(name)
                values[name] = _merge(old, value)
                origins[name] = f"{origins[name]}; {where}" if isinstance(old, Mapping) else where
        return Resolved(validate(Settings, values, origins, ""), origins)

    def section(self, name: str, model: type[Model], overrides: Mapping[str, Any] | None = None) -> Resolved[Model]:
        """The settings of the section `name`, such as `assembler` or the instance `assembler.site_b`.

        Parameters:
            model: says what the section may hold.
            overrides: values from the command line; those that are None were not given.

        Raises UnknownInstance, UnknownSetting, MissingSetting, InvalidSetting, SecretReadable, SecretFileMissing.
        """
        values, origins = self.merged(name, model, overrides)
        return Resolved(validate(model, values, origins, name), origins)

    def merged(
        self, name: str, model: type[Section], overrides: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """The values of a section from everywhere, secrets read and nothing validated, and where each was set.

        Raises UnknownInstance, SecretReadable, SecretFileMissing, InvalidSetting.
        """
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for layer in self._layers(name, model, overrides or {}):
            for key, value in layer.values.items():
                where = layer.where[key]
                target, secret = secret_target(key, model)
                if secret:
                    value = read_secret(Path(str(value)).expanduser(), f"{name}.{target}", where)
                    where = f"{where}, a file"
                elif is_secret(model.model_fields.get(key)) and where.startswith(str(self.file)) and self.file:
                    check_private(self.file, f"{name}.{key}")
                old = values.get(target)
                values[target] = _merge(old, value)
                origins[target] = f"{origins[target]}; {where}" if isinstance(old, Mapping) else where
        return values, origins

    def with_text(self, path: Path, text: str) -> Sources:
        """The same, if the settings file were `path` with this text.

        Raises SettingsFileMalformed.
        """
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsFileMalformed(path=path, problem=error) from error
        return replace(self, file=path, tables=tables, lines=lines_of(text))

    def written(self, section: str) -> Mapping[str, Any]:
        """What the settings file itself says in a section, instances included."""
        return self._table(tuple(section.split(".")))

    def instances(self, service: str, model: type[Section]) -> list[str]:
        """The names of all instances of `service` that have a table of their own: `["site_a", "site_b"]`."""
        names = {key for key, value in self._table((service,)).items() if _is_instance(key, value, model)}
        variables = self._variables(service, model)
        return sorted(names | {key for key, value in variables.values.items() if _is_instance(key, value, model)})

    def has_section(self, name: str) -> bool:
        """Whether the file or the environment says anything in the section `name`."""
        path = tuple(name.split("."))
        start = PREFIX.lower() + DELIMITER.join(path) + DELIMITER
        return bool(self._table(path)) or any(key.startswith(start) for key in self.environment)

    def _layers(self, name: str, model: type[Section], overrides: Mapping[str, Any]) -> Iterator[Layer]:
        service, _, instance = name.partition(".")
        if instance and instance not in (known := self.instances(service, model)):
            listed = ", ".join(f"{service}.{each}" for each in known) or "none"
            raise UnknownInstance(section=name, service=service, valid=listed)
        yield self._file_layer((service,), model)
        if instance:
            yield self._file_layer((service, instance), model)
        variables = self._variables(service, model)
        own = {key: value for key, value in variables.values.items() if not _is_instance(key, value, model)}
        yield Layer(own, variables.where)
        if instance:
            yield self._variables(f"{service}.{instance}", model)
        given = {key: value for key, value in overrides.items() if value is not None}
        yield Layer(given, dict.fromkeys(given, "command line"))

    def _file_layer(self, path: Place, model: type[Section]) -> Layer:
        table = self._table(path)
        values = {
            key: value for key, value in table.items() if not (len(path) == 1 and _is_instance(key, value, model))
        }
        return Layer(values, {key: self._place(path, key) for key in values})

    def _variables(self, section: str, model: type[Section]) -> Layer:
        """What the environment says of one section."""
        name = section.replace(".", DELIMITER)
        values = self._environment(name, model) or {}
        return Layer(values, {key: f"environment {variable_name(section, key)}" for key in values})

    def _environment(self, name: str, kind: Any) -> Any:
        """What the environment says of a field of type `kind`; lists and tables are JSON. None if nothing."""
        start = PREFIX.lower() + name
        if not any(key == start or key.startswith(start + DELIMITER) for key in self.environment):
            return None
        # Costs a tenth of a second, so only where the environment says something.
        from pydantic import create_model
        from pydantic_settings import BaseSettings, EnvSettingsSource
        from pydantic_settings.exceptions import SettingsError

        fields: Any = {name: (kind, ...)}
        loader = create_model("Loader", __base__=BaseSettings, **fields)
        source = EnvSettingsSource(loader, env_prefix=PREFIX, env_nested_delimiter=DELIMITER)
        source.env_vars = self.environment
        try:
            return source().get(name)
        except SettingsError as error:
            problem = "a list or table in the environment must be JSON"
            where = f"environment {start.upper()}…"
            raise InvalidSetting(setting=name.replace(DELIMITER, "."), where=where, problem=problem) from error

    def _plain_layers(self, name: str, overrides: Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
        """The values of a setting of the spine that is no section, the weakest first."""
        if name in self.tables:
            yield self.tables[name], self._place((), name)
        variables = self._environment(name, Settings.model_fields[name].annotation)
        if variables is not None:
            yield variables, f"environment {PREFIX}{name.upper()}"
        if overrides.get(name) is not None:
            yield overrides[name], "command line"

    def _table(self, path: Place) -> Mapping[str, Any]:
        table: Any = self.tables
        for part in path:
            table = table.get(part, {})
            if not isinstance(table, Mapping):
                place = self._place(path[:-1], path[-1])
                raise InvalidSetting(setting=".".join(path), where=place, problem="it must be a table")
        found: Mapping[str, Any] = table
        return found

    def _place(self, path: Place, key: str) -> str:
        line = self.lines.get((*path, key)) or self.lines.get(path)
        return f"{self.file}:{line}" if line else str(self.file)

    def _check_sections(self) -> None:
        if self.known is None:
            return
        valid = sorted(self.known | set(Settings.model_fields))
        for name in self.tables:
            if name not in valid:
                raise UnknownSection(section=f"[{name}]", where=self._place((), name), valid=", ".join(valid))
        for variable in self.environment:
            section, nested, _ = variable.removeprefix(PREFIX.lower()).partition(DELIMITER)
            if nested and section not in valid:
                place = f"environment {variable.upper()}"
                raise UnknownSection(section=f"[{section}]", where=place, valid=", ".join(valid))


def _is_instance(key: str, value: Any, model: type[Section]) -> bool:
    return isinstance(value, Mapping) and key not in model.model_fields and _INSTANCE.fullmatch(key) is not None


def _merge(below: Any, above: Any) -> Any:
    """Tables are merged key by key, everything else is replaced."""
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    return {**below, **{key: _merge(below.get(key), value) for key, value in above.items()}}
