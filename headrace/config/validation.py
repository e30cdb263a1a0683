"""From raw values to a model, with errors that name the setting, where it was set, and what is valid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from headrace.config.errors import InvalidSetting, MissingSetting, UnknownSetting
from headrace.config.model import Section

PREFIX = "HEADRACE_"
DELIMITER = "__"

Model = TypeVar("Model", bound=Section)


def variable_name(section: str, key: str) -> str:
    """The environment variable of a setting: `HEADRACE_ASSEMBLER__SITE_B__ROOT`."""
    return PREFIX + DELIMITER.join((*section.split("."), key)).upper()


def section_models(model: type[Section]) -> dict[str, type[Section]]:
    """The fields of `model` that are tables of their own, with the models of those."""
    fields = {name: info.annotation for name, info in model.model_fields.items()}
    return {name: kind for name, kind in fields.items() if isinstance(kind, type) and issubclass(kind, Section)}


def is_secret(info: FieldInfo | None) -> bool:
    """Whether a field holds a secret."""
    return info is not None and (info.annotation is SecretStr or SecretStr in get_args(info.annotation))


def secret_target(key: str, model: type[Section]) -> tuple[str, bool]:
    """The field that `key` sets, and whether it does so by naming a file."""
    target = key.removesuffix("_file")
    if target != key and key not in model.model_fields and is_secret(model.model_fields.get(target)):
        return target, True
    return key, False


def valid_names(model: type[Section]) -> list[str]:
    """Every key that a section may have."""
    names = []
    for name, info in model.model_fields.items():
        names += [name, f"{name}_file"] if is_secret(info) else [name]
    return names


def validate(model: type[Model], values: Mapping[str, Any], origins: Mapping[str, str], section: str) -> Model:
    """The model made of `values`.

    Raises UnknownSetting, MissingSetting or InvalidSetting for the first thing that is wrong.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        # The input may be a secret: only its place and what pydantic says of the type is shown.
        first = error.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    setting = ".".join(part for part in (section, *(str(each) for each in first["loc"])) if part)
    where = origins.get(name, "default")
    if first["type"] == "extra_forbidden":
        raise UnknownSetting(setting=setting, where=where, section=section, valid=", ".join(valid_names(model)))
    if first["type"] == "missing":
        description = model.model_fields[name].description or ""
        variable = variable_name(section, name)
        raise MissingSetting(setting=setting, description=description, name=name, section=section, variable=variable)
    problem = str(first["msg"]).removeprefix("Value error, ")
    raise InvalidSetting(setting=setting, where=where, problem=problem[:1].lower() + problem[1:])
