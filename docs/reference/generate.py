"""Writes the pages of this folder from the code: `python docs/reference/generate.py`; with `--check` it only compares.

A unit test runs the comparison, so a setting, command, topic, error or metric that is not here fails the build.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from enum import Enum
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer.main
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from headrace import errors, topology
from headrace.cli import app, commands
from headrace.cli.lazy import LazyGroup, load_command
from headrace.config import Section, Settings, StageSettings, format_duration
from headrace.config.validation import is_secret, section_models, variable_name
from headrace.families import GROUP, catalogue, families, named, sections, stages
from headrace.observe.metrics import LOOP_METRICS, PREFIX, MetricEntry

HERE = Path(__file__).resolve().parent
NOTICE = "<!-- Written by docs/reference/generate.py; change the code, then run it again. -->"


def pages() -> dict[str, Callable[[], str]]:
    """Every page by file name."""
    return {
        "commands.md": commands_page,
        "settings.md": settings_page,
        "topics.md": topics_page,
        "errors.md": errors_page,
        "metrics.md": metrics_page,
        "topology.svg": lambda: topology.draw(families()),
    }


def commands_page() -> str:
    """Every command with its arguments and options."""
    root = typer.main.get_command(app)
    lines = ["# Commands", "", NOTICE, "", first_paragraph(root.help), ""]
    lines += [
        "Exit codes: 0 everything delivered or unchanged; 1 something failed; 2 wrong usage or settings; "
        "3 balanced, with dead letters or held items; 4 detached; 130 interrupted. A service that was told to stop "
        "and has drained ends with 0.",
        "",
        "Options before the command:",
        "",
    ]
    lines += parameters(root)
    for name, entry in commands().items():
        lines += command_lines(f"headrace {name}", load_command(entry), 2)
    return "\n".join(lines)


def command_lines(path: str, command: Any, level: int) -> Iterator[str]:
    """One command, and those below it."""
    yield f"{'#' * level} {path}"
    yield ""
    yield from paragraphs(command.help)
    below = dict(getattr(command, "commands", {}))
    if isinstance(command, LazyGroup):
        below |= {name: load_command(entry) for name, entry in command.entries().items()}
    if below:
        for name, each in below.items():
            yield from command_lines(f"{path} {name}", each, level + 1)
        return
    arguments = [usage(each) for each in command.params if each.param_type_name == "argument"]
    yield f"    {' '.join([path, *arguments, '[OPTIONS]' if len(arguments) < len(command.params) else '']).rstrip()}"
    yield ""
    yield from parameters(command)


def usage(argument: Any) -> str:
    """An argument as the usage line shows it."""
    name = (argument.metavar or argument.name).upper()
    name = f"{name.removesuffix('...')}..." if argument.nargs == -1 else name
    return name if argument.required else f"[{name}]"


def parameters(command: Any) -> list[str]:
    """A table of arguments and options."""
    rows = []
    for each in command.params:
        if getattr(each, "hidden", False) or each.name == "help":
            continue
        argument = each.param_type_name == "argument"
        names = usage(each) if argument else ", ".join([*each.opts, *each.secondary_opts])
        rows.append([f"`{names}`", shown_default(each), each.help or ""])
    return [*table(["argument or option", "default", "meaning"], rows), ""] if rows else []


def shown_default(parameter: Any) -> str:
    """The default of a parameter, if it says something."""
    value = parameter.default
    if value is None or value is False or value == () or callable(value) or repr(value).startswith("Sentinel"):
        return ""
    if isinstance(value, Enum):
        value = value.value
    return f"`{value}`"


def settings_page() -> str:
    """Every setting with its type, default and environment variable."""
    lines = ["# Settings", "", NOTICE, "", *SETTINGS_INTRODUCTION.strip().splitlines(), ""]
    plain = [name for name in Settings.model_fields if name not in section_models(Settings)]
    lines += ["## Top level", "", *settings_table("", Settings, plain), ""]
    for name, model in section_models(Settings).items():
        lines += [f"## [{name}]", "", *paragraphs(model.__doc__), *settings_table(name, model), ""]
    for name, shared in sections().items():
        lines += [f"## [{name}]", "", sentence(shared.purpose), "", *settings_table(name, shared.load_settings()), ""]
    for name, entry in stages().items():
        stage_model = entry.load_settings()
        lines += [
            f"## [{name}]",
            "",
            f"The service `{name}` {entry.purpose}.",
            "",
            *settings_table(name, stage_model),
            "",
        ]
    return "\n".join(lines)


def settings_table(section: str, model: type[Section], names: Iterable[str] | None = None) -> list[str]:
    """One section's settings."""
    rows = []
    for name in names or model.model_fields:
        info = model.model_fields[name]
        key = f"{name}_file" if is_secret(info) else name
        both = f"`{name}`, `{key}`" if key != name else f"`{name}`"
        variable = variable_name(section, key) if section else f"HEADRACE_{name.upper()}"
        rows.append([both, type_name(info.annotation), field_default(info), info.description or "", f"`{variable}`"])
    return table(["setting", "type", "default", "meaning", "environment"], rows)


def type_name(kind: Any) -> str:
    """A type as an operator thinks of it."""
    names = {timedelta: "duration", str: "text", int: "number", float: "number", bool: "true or false", Path: "path"}
    if kind in names:
        return names[kind]
    if kind is SecretStr:
        return "secret"
    origin, arguments = get_origin(kind), [each for each in get_args(kind) if each is not type(None)]
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in arguments)
    if origin is list:
        return f"list of {type_name(arguments[0])}"
    if origin is dict:
        return (
            "table"
            if arguments[1] in names
            else "table of tables: " + ", ".join(f"`{each}`" for each in arguments[1].model_fields)
        )
    if arguments:
        return " or ".join(type_name(each) for each in arguments if not isinstance(each, FieldInfo))
    return getattr(kind, "__name__", str(kind))


def field_default(info: FieldInfo) -> str:
    """The default of a setting."""
    if info.default_factory is not None:
        return "of this machine"
    value = info.default
    if value is PydanticUndefined:
        return "**must be set**"
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, timedelta):
        return f"`{format_duration(value)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def topics_page() -> str:
    """Every topic of the catalogue."""
    lines = ["# Topics", "", NOTICE, "", *TOPICS_INTRODUCTION.strip().splitlines(), ""]
    lines += ["![Which service writes and reads which topic](topology.svg)", ""]
    for topic in catalogue():
        writers = [name for name, entry in stages().items() if named(topic.name, entry.writes)]
        readers = [name for name, entry in stages().items() if named(topic.name, entry.reads)]
        value = ("Avro record of the dataset, or " if topic.framing == "records" else "") + (
            " or ".join(f"Avro `{kind.__name__}`" for kind in topic.values)
            if topic.values
            else {"frames": "chunk frames, msgpack", "original": "original bytes"}[topic.framing]
        )
        rows = [
            ["key", topic.key],
            ["value", value],
            ["cleanup", topic.cleanup],
            ["retention", "forever" if topic.retention is None else format_duration(topic.retention)],
            ["largest message", f"{topic.max_message_bytes} bytes"],
            ["time stamps", "set by the broker" if topic.append_time else "set by the writer"],
            ["written by", ", ".join(f"`{name}`" for name in writers) or "the command line"],
            ["read by", ", ".join(f"`{name}`" for name in readers) or "the command line"],
        ]
        lines += [f"## {topic.name}", "", sentence(topic.purpose), "", *table(["", ""], rows), ""]
    return "\n".join(lines)


def errors_page() -> str:
    """Every error that is raised on purpose."""
    lines = ["# Errors", "", NOTICE, "", *ERRORS_INTRODUCTION.strip().splitlines(), ""]
    everything = sorted(error_classes(), key=lambda each: (each.code, each.__qualname__, message_of(each)))
    kinds: list[tuple[type[errors.HeadraceError], str]] = [
        (errors.ConfigError, "Settings and usage: exit code 2"),
        (errors.TransientError, "The outside is unwell: tried again"),
        (errors.PermanentError, "This message can never be handled: dead letter"),
        (errors.FatalError, "A promise is broken: the process ends and starts again"),
    ]
    for kind, title in kinds:
        rows = dict.fromkeys(
            (f"`{each.code}`", f"`{each.__name__}`", message_of(each)) for each in everything if issubclass(each, kind)
        )
        lines += [f"## {title}", "", *table(["code", "class", "message"], list(rows)), ""]
    return "\n".join(lines)


def error_classes() -> set[type[errors.HeadraceError]]:
    """All classes of the tree that are defined in the spine and in the families."""
    for name in ("headrace", *sorted({point.module for point in entry_points(group=GROUP)})):
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    found: set[type[errors.HeadraceError]] = set()
    waiting: list[type[errors.HeadraceError]] = [errors.HeadraceError]
    while waiting:
        for each in waiting.pop().__subclasses__():
            if each.__module__.split(".")[0].startswith("headrace") and each not in found:
                found.add(each)
                waiting.append(each)
    return found


def message_of(error: type[errors.HeadraceError]) -> str:
    """The template, with its places marked."""
    return inspect.cleandoc(error.__doc__ or "").replace("\n", " ").replace("<", "&lt;")


def metrics_page() -> str:
    """Every metric."""
    lines = ["# Metrics and health", "", NOTICE, "", *METRICS_INTRODUCTION.strip().splitlines(), ""]
    lines += ["## Every service that reads topics", "", *metrics_table(LOOP_METRICS), ""]
    for name, entry in stages().items():
        own = entry.load_metrics()
        if own:
            also = " (beside those above)" if issubclass(entry.load_settings(), StageSettings) else ""
            lines += [f"## {name}{also}", "", *metrics_table(own), ""]
    return "\n".join(lines)


def metrics_table(entries: Sequence[MetricEntry]) -> list[str]:
    """Some metrics."""
    rows = [[f"`{PREFIX}{each.name}`", each.kind, ", ".join(each.labels), each.help] for each in entries]
    return table(["metric", "kind", "labels", "meaning"], rows)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return [*head, *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)]


def paragraphs(text: str | None) -> list[str]:
    """A docstring as Markdown lines."""
    return [*inspect.cleandoc(text or "").splitlines(), ""]


def first_paragraph(text: str | None) -> str:
    """The first paragraph of a docstring."""
    return inspect.cleandoc(text or "").split("\n\n")[0]


def sentence(text: str) -> str:
    """A purpose as a sentence."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


SETTINGS_INTRODUCTION = """
Settings come from `headrace.toml` (in this folder, or `--config FILE`, or `$HEADRACE_CONFIG`), then from the
environment, then from the command line; the later wins. `headrace config show` prints what is in force and where each
value came from, `headrace config check` tries it out and changes nothing. A name that does not exist is refused.

- The variable of a setting is `HEADRACE_`, the section, two underscores, the name: `HEADRACE_KAFKA__BOOTSTRAP`.
  Lists and tables are JSON there.
- A service has the section of its name. Several instances are tables inside it: `[assembler.site_b]` takes what
  `[assembler]` says and changes what differs; its variables begin with `HEADRACE_ASSEMBLER__SITE_B__`. It is run by
  `headrace run assembler.site_b`.
- A secret may be set as `NAME_file`, the path of a file that holds it; in the environment that is `…__NAME_FILE`.
  The file, and a `headrace.toml` that holds a secret itself, must be readable by its owner only (`chmod 600`).
- Durations are `"90s"`, `"15m"`, `"24h"`, `"7d"` or a number of seconds; sizes `"256KiB"`, `"64MiB"`, `"10GB"`.
"""

TOPICS_INTRODUCTION = """
The names here are without the prefix (`kafka.prefix`, `headrace.` by default). `headrace topics apply` creates what is
missing and sets what differs; it never changes the partition count of a topic that holds data. The partition of a
message is murmur2 of the first part of its key. `[topics.NAME]` in the settings changes how long a topic is kept.
"""

ERRORS_INTRODUCTION = """
Everything that Headrace raises on purpose, by its code. Dead letters carry the code in the header `dlq-error`. A
command prints the message as one line and ends with exit code 2 for settings and usage, else 1; `--debug` adds where in
the code it came from.
"""

METRICS_INTRODUCTION = """
Each service serves `/metrics`, `/healthz` and `/readyz` on `metrics_host` and `metrics_port` of its section: a free
port of the loopback address by default, which the log names at the start.

- `/healthz` is 200 while every partition that has work before it moves, or has declared a pause (its reason is in the
  answer); 503 with the reasons when one has not moved for 60 s, or the main loop has not come round for as long.
- `/readyz` is 200 once partitions are assigned, or the source has started.

Counters count repeated work again; the books of `headrace verify` do not. CPU, memory and open files are there as
`process_*`. To scale by lag, use `headrace_lag`: the committed offset stands at the oldest unfinished file.
"""


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or compare them; returns 1 if one is stale."""
    stale = []
    for name, make in pages().items():
        text = make()
        text = text if text.endswith("\n") else text + "\n"
        path = HERE / name
        if not path.exists() or path.read_text("utf-8") != text:
            stale.append(name)
            if "--check" not in arguments:
                path.write_text(text, "utf-8")
    if "--check" in arguments and stale:
        sys.stderr.write(f"Stale: {', '.join(stale)}. Run: python docs/reference/generate.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
