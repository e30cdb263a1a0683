"""Dead letters: a list with filters, one with what is in it, and the way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import orjson
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from headrace.cli.verify import since_milliseconds
from headrace.deadletters.contents import describe, describe_key
from headrace.deadletters.decisions import LONGEST_REASON
from headrace.deadletters.letters import DeadLetter, letter_of
from headrace.deadletters.listing import NothingChosen
from headrace.deadletters.selection import Histogram, Selection, parse_id, state_of
from headrace.deadletters.survey import FATES, FORCED, WHY, Survey
from headrace.kafka.reading import read_now
from headrace.topics import DEAD_LETTERS
from headrace_ops.console.guard import Form
from headrace_ops.console.pages.base import Console, first

SHOWN = 100
FILTERS = ("reason", "service", "topic", "job", "item", "since", "until", "id")


def routes(console: Console) -> list[Route]:
    """The routes of these pages."""
    prefix = console.cluster.settings.prefix
    topics = {console.cluster.topic_name(topic): topic for topic in console.topics}

    def listed(request: Request) -> Response:
        filters = given(parse_qs(request.url.query, max_num_fields=100))
        chosen = selection(filters, prefix)
        with console.watch.lock:
            letters = console.watch.letters.newest()
            forgotten = console.watch.letters.forgotten
        found = [letter for letter in letters if chosen.takes(letter)]
        histogram = Histogram()
        for letter in found:
            histogram.take(letter, state_of(letter, {}))
        return console.render(
            request, "dead_letters.html", letters=[(each, state_of(each, {})) for each in found[:SHOWN]],
            count=len(found), forgotten=forgotten, remembered=len(letters), histogram=rows(histogram),
            filters=filters, choices=choices(letters, prefix), run=console.redriving.run,
        )  # fmt: skip

    def one(request: Request) -> Response:
        place = request.path_params["partition"], request.path_params["offset"]
        if place[0] >= console.cluster.partitions(DEAD_LETTERS):
            return console.missing(request, "There is no such dead letter.")
        batches = read_now(console.cluster, DEAD_LETTERS, starts={place[0]: place[1]}, ends={place[0]: place[1] + 1})
        raw = next((message for batch in batches for message in batch if message.offset() == place[1]), None)
        if raw is None:
            return console.missing(request, "This dead letter is not there: it has expired, or never was.")
        letter = letter_of(raw)
        content = describe(topics.get(letter.topic), raw.value() or b"", unmask=False)
        with console.watch.lock:
            undecided = any(each.id == letter.id for each in console.watch.letters.newest())
        return console.render(
            request, "dead_letter.html", letter=letter, undecided=undecided, state=state_of(letter, {}),
            key=describe_key(letter.key, unmask=False),
            content=orjson.dumps(content, option=orjson.OPT_INDENT_2).decode().splitlines(),
        )  # fmt: skip

    def dry_run(request: Request) -> Response:
        filters = given(request.state.form)
        # What is put aside after the dry run is not part of what is confirmed.
        filters.setdefault("until", [datetime.now(UTC).isoformat(timespec="milliseconds")])
        force = first(request.state.form, "force") == "yes"
        survey = console.redriving.survey(selection(filters, prefix), force=force)
        return console.render(request, "redrive.html", filters=filters, force=force, **told(survey))

    def redrive(request: Request) -> Response:
        if first(request.state.form, "confirmed") != "yes":
            return console.missing(request, "Look first at what would be re-driven.")
        force = first(request.state.form, "force") == "yes"
        console.redriving.redrive(selection(given(request.state.form), prefix), force=force)
        return RedirectResponse("/dead-letters/redrive", 303)

    def discard(request: Request) -> Response:
        """First what would be discarded; when that is confirmed, do it."""
        form = request.state.form
        filters = given(form)
        if not filters:
            raise NothingChosen
        if first(form, "confirmed") == "yes":
            console.redriving.discard(selection(filters, prefix), first(form, "because").strip() or None)
            return RedirectResponse("/dead-letters/redrive", 303)
        filters.setdefault("until", [datetime.now(UTC).isoformat(timespec="milliseconds")])
        histogram = console.redriving.histogram(selection(filters, prefix))
        return console.render(
            request, "discard.html", filters=filters, histogram=rows(histogram),
            chosen=histogram.counts.total(), longest=LONGEST_REASON,
        )  # fmt: skip

    def progress(request: Request) -> Response:
        part = request.url.path.endswith("/live")
        template = "redriving_live.html" if part else "redriving.html"
        run = console.redriving.run
        survey = None if run is None or run.survey is None else told(run.survey)
        return console.render(request, template, run=run, survey=survey)

    return [
        Route("/dead-letters", listed),
        Route("/dead-letters/{partition:int}/{offset:int}", one),
        Route("/dead-letters/dry-run", dry_run, methods=["POST"]),
        Route("/dead-letters/redrive", redrive, methods=["POST"]),
        Route("/dead-letters/discard", discard, methods=["POST"]),
        Route("/dead-letters/redrive", progress),
        Route("/dead-letters/redrive/live", progress),
    ]


def given(form: Form) -> dict[str, list[str]]:
    """The filters that a form or an address names."""
    return {name: kept for name in FILTERS if (kept := [each for each in form.get(name, []) if each.strip()])}


def selection(filters: Mapping[str, Sequence[str]], prefix: str) -> Selection:
    """What `headrace dlq` would choose with the same filters.

    Raises ConfigError if a time or an id cannot be read.
    """
    now = datetime.now(UTC).astimezone()
    times = {name: since_milliseconds(filters[name][0], now) for name in ("since", "until") if name in filters}
    return Selection(
        prefix,
        codes=frozenset(filters.get("reason", ())),
        services=frozenset(filters.get("service", ())),
        topics=frozenset(filters.get("topic", ())),
        jobs=frozenset(filters.get("job", ())),
        items=frozenset(filters.get("item", ())),
        since=times.get("since"),
        until=times.get("until"),
        ids=frozenset(parse_id(text) for text in filters.get("id", ())),
    )


def choices(letters: Sequence[DeadLetter], prefix: str) -> dict[str, list[str]]:
    """What can be chosen in each filter, from what is there."""
    return {
        "reason": sorted({letter.code for letter in letters}),
        "service": sorted({letter.group.removeprefix(prefix) for letter in letters}),
        "topic": sorted({letter.topic.removeprefix(prefix) for letter in letters}),
    }


def rows(histogram: Histogram) -> list[tuple[int, tuple[str, str, str, str], int, int]]:
    """Count, (reason, service, topic, state or fate), oldest and newest, the most frequent first."""
    return [(count, row, histogram.oldest[row], histogram.newest[row]) for row, count in histogram.counts.most_common()]


def told(survey: Survey) -> dict[str, Any]:
    """What a survey has found, for a page."""
    stay = [(fate, survey.count(fate), WHY[fate]) for fate in FATES if fate != "redrive" and survey.count(fate)]
    return {
        "chosen": len(survey.chosen), "size": survey.size, "histogram": rows(survey.histogram), "stay": stay,
        "in_pieces": list(survey.files), "forced": [(count, fate) for fate, count in survey.forced.items()],
        "may_force": sum(survey.count(fate) for fate in FORCED),
    }  # fmt: skip
