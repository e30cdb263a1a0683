"""Writes converted settings as TOML, with every secret in a file of its own that nobody else can read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headrace.errors import ConfigError
from headrace_art.importing.converting import Converted, Setting


class WouldOverwrite(ConfigError):
    """{path} is there already, and is not overwritten. Move it away, or choose another place."""

    code = "would-overwrite"


def write(converted: Converted, secrets: Path, known: Callable[[Setting], bool]) -> str:
    """The TOML; the secrets are written.

    Parameters:
        secrets: folder for them; made for the owner only.
        known: whether this installation has the setting; others are written as comments.

    Raises WouldOverwrite, before anything is written.
    """
    hidden = [setting for setting in converted.settings if setting.secret]
    paths = {setting: (secrets / f"{setting.section}_{setting.name}").absolute() for setting in hidden}
    for path in paths.values():
        if path.exists():
            raise WouldOverwrite(path=path)
    if hidden:
        secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
    for setting, path in paths.items():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            out.write(f"{setting.value}\n")
    lines: list[str] = []
    for section in dict.fromkeys(setting.section for setting in converted.settings):
        own = [setting for setting in converted.settings if setting.section == section]
        some = any(known(setting) for setting in own)
        lines += ["", f"{'' if some else '# '}[{section}]"]
        for setting in own:
            name, value = setting.name, setting.value
            if setting.secret:
                name, value = f"{name}_file", str(paths[setting])
            lines.append(f"{'' if known(setting) else '# '}{name} = {_toml(value)}")
    return "\n".join(lines).lstrip("\n") + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(str(key))} = {_toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
