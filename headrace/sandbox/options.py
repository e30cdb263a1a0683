"""What the commands of stand-ins share: settings from the command line and a file, and serving until told to stop."""

from __future__ import annotations

import asyncio
import signal
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import orjson
import typer
from pydantic import ValidationError

from headrace.errors import ConfigError
from headrace.sandbox.background import Served
from headrace.sandbox.faults import Fault

Server = TypeVar("Server", bound=Served)


class SandboxFileWrong(ConfigError):
    """The file {path} for the stand-in cannot be used: {problem}."""

    code = "sandbox-file-wrong"


def read_file(path: Path | None) -> tuple[dict[str, Any], list[Fault]]:
    """The settings of a TOML file, and its fault plan, `[[faults]]`; nothing of None.

    Raises SandboxFileWrong.
    """
    if path is None:
        return {}, []
    try:
        found = tomllib.loads(path.read_text("utf-8"))
        return found, [Fault.model_validate(rule) for rule in found.pop("faults", [])]
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise SandboxFileWrong(path=path, problem=error) from error


def pairs(given: Sequence[str] | None) -> dict[str, Any]:
    """Settings that were given as NAME=VALUE, the value as JSON, or as it stands."""
    found = {}
    for each in given or ():
        name, equals, text = each.partition("=")
        if not equals:
            raise typer.BadParameter(f"{each!r} is not NAME=VALUE", param_hint="--set")
        try:
            found[name] = orjson.loads(text)
        except orjson.JSONDecodeError:
            found[name] = text
    return found


def serve(make: Callable[[], Server], told: Callable[[Server], Mapping[str, Any]]) -> None:
    """Run a stand-in until SIGINT or SIGTERM; when it serves, print what `told` says of it as one line of JSON."""
    asyncio.run(_serve(make, told))


async def _serve(make: Callable[[], Server], told: Callable[[Server], Mapping[str, Any]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = make()
    try:
        await server.start()
        typer.echo(orjson.dumps(told(server)).decode())
        await stop.wait()
    finally:
        await server.stop()
