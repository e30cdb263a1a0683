"""What can be wrong with settings. Every message names the setting, where it was set, and what is valid."""

from __future__ import annotations

from headrace.errors import ConfigError


class SettingsFileMissing(ConfigError):
    """The settings file {path} ({where}) cannot be read: {problem}."""

    code = "settings-file-missing"


class SettingsFileMalformed(ConfigError):
    """The settings file {path} is not valid TOML: {problem}."""

    code = "settings-file-malformed"


class UnknownSection(ConfigError):
    """There is no section {section} ({where}). Valid sections: {valid}."""

    code = "unknown-section"


class UnknownSetting(ConfigError):
    """There is no setting {setting} ({where}). Valid in [{section}]: {valid}."""

    code = "unknown-setting"


class InvalidSetting(ConfigError):
    """The setting {setting} ({where}) is wrong: {problem}."""

    code = "invalid-setting"


class MissingSetting(ConfigError):
    """The setting {setting} is not set. {description} Set {name} under [{section}] in headrace.toml, or {variable}."""

    code = "missing-setting"


class UnknownInstance(ConfigError):
    """There is no section [{section}], so no such instance of {service}. Known instances: {valid}."""

    code = "unknown-instance"


class SecretFileMissing(ConfigError):
    """The secret {setting} ({where}) cannot be read from {path}: {problem}."""

    code = "secret-file-missing"


class SecretReadable(ConfigError):
    """{path} holds the secret {setting}, but others than its owner can read it (mode {mode}). Run: chmod 600 {path}."""

    code = "secret-readable"


class SettingsFileChanged(ConfigError):
    """The settings file {path} has changed since this was looked at. Look again, and change it then."""

    code = "settings-file-changed"


class SettingsFileNotWritten(ConfigError):
    """The settings file {path} cannot be written: {problem}. It is as it was; change it by hand."""

    code = "settings-file-not-written"


class NotEditable(ConfigError):
    """The setting {setting} cannot be changed here. Change it in the settings file or in the environment."""

    code = "not-editable"
