"""A request as the handlers of endpoints see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.sandbox.faults import Fault
from headrace_art.sandbox.node import Node
from headrace_art.sandbox.world import World


@dataclass(frozen=True)
class Call:
    """What was asked, where and by whom.

    `url` is the request's without its query, as this server saw it.
    """

    world: World
    node: Node
    url: str
    parts: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    user: str
    kind: str = ""
    fault: Fault | None = None
