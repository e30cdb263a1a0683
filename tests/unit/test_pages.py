"""Pages that families offer: what becomes of a field, and that what they name is there."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
import typer.main

from headrace import pages
from headrace.cli import app
from headrace.cli.config import model_of
from headrace.families import pages as offered

TODAY = datetime.date(2026, 11, 5)


@pytest.mark.parametrize("name", sorted(offered()))
def test_every_command_option_and_setting_that_a_page_names_is_there(name: str) -> None:
    page = offered()[name].load_page()
    for section in page.sections:
        model_of(section)
    for action in (*page.actions, *page.job_actions):
        options = page.options if action in page.actions else ()
        values = {option.name: "1" for option in options} | pages.defaults(page, TODAY)
        words = pages.arguments(options, action, values, "/files", "a-job")
        command: Any = typer.main.get_command(app)
        context = command.make_context("headrace", [words[0]])
        while hasattr(command, "resolve_command"):
            _, command, words = command.resolve_command(context, words)
        context = command.make_context("command", words)
        assert not context.args


def test_a_job_is_named_before_it_begins_and_the_same_wish_has_the_same_name() -> None:
    from headrace.config import sources
    from headrace_art.console.page import PAGE

    plain = {"--date": "2026-11-05", "--entities": "job"}
    assert PAGE.job(sources(), plain) == "art-load-20261105"
    other = {**plain, "--studentfile": "x.csv", "--localonly": "yes", "--number": "7"}
    assert PAGE.job(sources(), other) == PAGE.job(sources(), other) != "art-load-20261105"


PAGE = pages.Page(
    "t", "p", (), (
        pages.Option("--file", "f"), pages.Option("--date", "d", "date"), pages.Option("--most", "n", "number"),
        pages.Option("--local", "l", "flag"), pages.Option("--which", "w", "choice", (("a", "A"), ("b", "B"))),
    ), (pages.Action("go", "Go", ("do", "{job}", "--out={files}")),), lambda _sources, _values: "j", frozenset(),
)  # fmt: skip


def test_each_field_is_one_word_so_that_no_value_becomes_an_option_or_a_command() -> None:
    values = {"--file": "--json; rm -rf / $(x)", "--local": "yes", "--which": "b"}
    words = pages.arguments(PAGE.options, PAGE.actions[0], values, "/f", "night")
    assert words == ["do", "night", "--out=/f", "--file=--json; rm -rf / $(x)", "--local", "--which=b"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("--file", "x\0y"), ("--file", "x" * 5000), ("--date", "yesterday"), ("--most", "-1"), ("--most", "\u0663"),
        ("--local", "no"), ("--which", "c"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_at_its_field(name: str, value: str) -> None:
    assert set(pages.problems(PAGE, {name: value})) == {name}


def test_fields_begin_with_today_and_with_the_first_choice() -> None:
    assert pages.defaults(PAGE, TODAY) == {"--date": "2026-11-05", "--which": "a"}
    assert pages.problems(PAGE, pages.defaults(PAGE, TODAY)) == {}
