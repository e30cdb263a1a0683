"""The settings as pages show and change them: read anew each time, since an operator changes them meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from headrace.cli.config import configured_services, model_of, written
from headrace.cli.runtime import Session
from headrace.config import Settings, Sources, editing, sources
from headrace.config.editing import Editable
from headrace.config.validation import is_secret, section_models
from headrace.errors import ConfigError
from headrace.families import sections, stages
from headrace.observe.log import hide

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Row:
    """One setting that is in force; of a secret only whether it is set."""

    name: str
    value: str
    origin: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A section as it stands; `problem` is what is wrong with all of it."""

    name: str
    rows: list[Row]
    problem: str | None = None

    @property
    def told(self) -> list[Row]:
        """Those that are set, or wrong."""
        return [row for row in self.rows if row.origin != DEFAULT or row.problem]

    @property
    def defaults(self) -> list[Row]:
        """The others."""
        return [row for row in self.rows if row not in self.told]


@dataclass(frozen=True, slots=True)
class Input:
    """A setting in a form: what stands in it, and what is wrong with that. `hidden`: it holds what nobody may see."""

    setting: Editable
    value: str
    problem: str | None = None
    hidden: bool = False

    @property
    def fixed(self) -> bool:
        """Whether it cannot be changed from here."""
        return self.hidden or self.setting.elsewhere is not None


@dataclass(frozen=True, slots=True)
class Form:
    """A section in a form.

    Parameters:
        mark: of the file as it was read.
        secrets: by name, whether it is set.
    """

    section: str
    file: Path
    mark: str
    inputs: list[Input]
    secrets: Mapping[str, bool]
    problem: str | None = None

    @property
    def well(self) -> bool:
        """Whether nothing is wrong with it."""
        return self.problem is None and not any(each.problem for each in self.inputs)


@dataclass(frozen=True)
class SettingsNow:
    """What is set on this machine now.

    Parameters:
        file: the settings file that was found at the start, or named; None: the usual one, once it is there.
        overrides: what was said on the command line, which wins.
    """

    file: Path | None
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings, found: Sources) -> SettingsNow:
        """Of a service that was given `settings`, of which those that `found` does not say were said to it."""
        plain = found.settings().values
        told: dict[str, dict[str, Any]] = {
            "kafka": {"bootstrap": settings.kafka.bootstrap} if settings.kafka != plain.kafka else {},
            "log": {"level": settings.log.level} if settings.log != plain.log else {},
        }
        return cls(found.file, told)

    def sources(self) -> Sources:
        """Everything that is said."""
        return sources(self.file)

    def session(self) -> Session:
        """As a command that is started now finds them. Raises ConfigError if they are wrong."""
        found = self.sources()
        resolved = found.settings(self.overrides)
        return Session(found, resolved.values, resolved.origins)

    def path(self) -> Path:
        """The settings file."""
        return editing.settings_file(self.sources())

    def names(self) -> list[str]:
        """The sections of which anything is said or that everything needs, the spine's first."""
        found = self.sources()
        try:
            settings = found.settings(self.overrides).values
        except ConfigError:
            # What is wrong is mended on these very pages.
            settings = Settings()
        return [*section_models(Settings), *(name for name, _ in configured_services(Session(found, settings, {})))]

    def others(self) -> list[str]:
        """The sections of which nothing is said."""
        known = set(self.names())
        return sorted(name for name in {*stages(), *sections()} - known if not any(
            each.startswith(f"{name}.") for each in known
        ))  # fmt: skip

    def shown(self, name: str) -> Shown:
        """A section with everything that is in force in it, whether it is right or not."""
        found, model = self.sources(), model_of(name)
        try:
            values, origins = found.merged(name, model, self.overrides.get(name))
            wrong = editing.problems(found, name, model, self.overrides.get(name))
        except ConfigError as error:
            return Shown(name, [], str(error))
        if not wrong:
            values = dict(found.section(name, model, self.overrides.get(name)).values)
        rows, path = [], editing.settings_file(found)
        for key, info in model.model_fields.items():
            value = values.get(
                key, None if info.is_required() else info.get_default(call_default_factory=True, validated_data={})
            )
            text = ("set" if value else "not set") if is_secret(info) else _shown(value)
            # The page names the file once.
            none = "not set" if info.is_required() else DEFAULT
            origin = origins.get(key, none).replace(f"{path.parent}/", "")
            rows.append(Row(key, text, origin, wrong.get(key)))
        return Shown(name, rows, wrong.get(""))

    def form(self, name: str, said: Mapping[str, str] | None = None, problem: str | None = None) -> Form:
        """A section to be edited. `said` is what a person wrote, which has not become settings."""
        found, model = self.sources(), model_of(name)
        path = editing.settings_file(found)
        values, _ = found.merged(name, model)
        secrets = {key: bool(values.get(key)) for key, info in model.model_fields.items() if is_secret(info)}
        mark = editing.read(path)[1]
        return Form(name, path, mark, list(_inputs(found, name, said or {})), secrets, problem)

    def save(self, name: str, said: Mapping[str, str], mark: str) -> Form:
        """Write what was said, if it is right; what comes back says what is wrong, if it is not.

        Raises SettingsFileChanged, SettingsFileNotWritten, NotEditable.
        """
        found, model = self.sources(), model_of(name)
        path = editing.settings_file(found)
        text, _ = editing.read(path)
        free = [each.setting for each in _inputs(found, name, {}) if not each.fixed]
        wanted = {each.name: said.get(each.name, "") for each in free}
        problems: dict[str, str] = {}
        made = text
        # One by one: a value that has no such form must not hide what is wrong with the others.
        for each in free:
            try:
                made = editing.changed(made, name, model, {each.name: wanted[each.name]})
            except ValueError as error:
                problems[each.name] = str(error)
        fresh = found.with_text(path, made)
        problems = {**editing.problems(fresh, name, model), **problems}
        # Nobody can set them here, so they must not be in the way.
        missing = {key for key, info in model.model_fields.items() if is_secret(info)}
        problems = {key: text for key, text in problems.items() if key not in missing}
        if not problems:
            editing.write(path, made, mark)
            return self.form(name)
        form = self.form(name, wanted, problems.get(""))
        inputs = [Input(each.setting, each.value, problems.get(each.setting.name), each.hidden) for each in form.inputs]
        return Form(name, form.file, mark, inputs, form.secrets, form.problem)


def _shown(value: Any) -> str:
    """A value as it is written in the file, a list with commas; what nobody may see is hidden."""
    if hide(value) != value:
        return written(value)
    if isinstance(value, dict) and all(isinstance(each, str) for each in value.values()):
        return editing.as_written(value, "pairs").replace("\n", ", ")
    if isinstance(value, list | tuple):
        return editing.as_written(value, "lines").replace("\n", ", ")
    return str(value).lower() if isinstance(value, bool) else written(value)


def _inputs(found: Sources, name: str, said: Mapping[str, str]) -> Iterator[Input]:
    table = found.written(name)
    for each in editing.editable(found, name, model_of(name)):
        hidden = hide(table.get(each.name)) != table.get(each.name)
        if hidden:
            yield Input(replace(each, written=""), "", hidden=True)
        else:
            yield Input(each, said.get(each.name, each.written))
