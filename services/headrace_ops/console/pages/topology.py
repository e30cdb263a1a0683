"""Who writes and reads what, how fast, and how far behind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace import topology
from headrace.families import families, named, stages
from headrace_ops.console.flow import GroupFlow, TopicFlow
from headrace_ops.console.pages.base import Console
from headrace_ops.console.rendering import count, rate, text_of


def routes(console: Console) -> list[Route]:
    """The routes of these pages."""
    prefix = console.cluster.settings.prefix

    def values() -> dict[str, Any]:
        with console.watch.lock:
            groups, topics = console.watch.flow.groups(), console.watch.flow.topics()
        picture = topology.draw(families(), live_words(groups, topics, prefix), styled=False)
        known = stages()
        rows = [(group, known.get(service_of(group.group, prefix))) for group in groups]
        seen = {service_of(group.group, prefix) for group in groups}
        return {
            # Our own names and numbers, escaped where it is drawn.
            "picture": Markup(picture),  # noqa: S704
            "rows": rows,
            "unseen": [entry for name, entry in known.items() if name not in seen],
            "topics": topics,
            "writers": {
                each.topic: [name for name, stage in known.items() if named(each.topic, stage.writes)]
                for each in topics
            },
        }

    def page(request: Request) -> Response:
        return console.render(request, "topology.html", **values())

    def live(request: Request) -> Response:
        return console.render(request, "topology_live.html", **values())

    def history(_request: Request) -> Response:
        with console.watch.lock:
            found = console.watch.flow.history()
        groups = [
            {"name": text_of(group.removeprefix(prefix)), "rates": found.rates[group], "lags": found.lags[group]}
            for group in found.rates
        ]
        return JSONResponse({"times": found.times, "groups": groups})

    return [Route("/", page), Route("/topology/live", live), Route("/topology/history.json", history)]


def service_of(group: str, prefix: str) -> str:
    """The service that a group belongs to: `assembler` for `headrace.assembler.site_b`."""
    return group.removeprefix(prefix).partition(".")[0]


def live_words(groups: Sequence[GroupFlow], topics: Sequence[TopicFlow], prefix: str) -> dict[str, str]:
    """How each service and topic is now, in a few words, by name."""
    of_service: defaultdict[str, list[GroupFlow]] = defaultdict(list)
    for group in groups:
        of_service[service_of(group.group, prefix)].append(group)
    words = {
        service: f"{rate(sum(each.rate for each in found))} · lag {count(sum(each.lag for each in found))}"
        for service, found in of_service.items()
    }
    return words | {each.topic: f"{rate(each.rate)} · {count(each.kept)} kept" for each in topics}
