"""Pages that a family offers to the console: plain objects, which the console draws and acts on.

A page offers commands of the command line with some of their options, the settings that these need, and the jobs that
they begin. The console runs such a command in a process of its own, so that a page can do what a terminal can, the same
way. A family names its pages as `PageEntry`, see `headrace.families`; none needs to know how pages are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from headrace.config import Sources

Kind = Literal["text", "date", "number", "flag", "choice"]

LONGEST_TEXT = 4096
SET = "yes"
"""The value of a flag that is set."""

FILES, JOB = "{files}", "{job}"
"""Stand in a command for the folder whose files are offered for download, and for the job's id."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a command, as a field.

    Parameters:
        name: as on the command line, `--date`.
        choices: of a choice: value and words; the first is taken where nothing is said.
        rare: whether it is out of sight until it is asked for.
    """

    name: str
    label: str
    kind: Kind = "text"
    choices: Sequence[tuple[str, str]] = ()
    help: str = ""
    rare: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """A button, and the command that it runs.

    Parameters:
        command: its words, the first ones that of the command line; `{files}` and `{job}` are filled in.
        help: what it does, for whoever is about to press it.
        caution: what must be known of the files that it writes, such as that they hold personal data.
    """

    name: str
    label: str
    command: Sequence[str]
    help: str = ""
    caution: str = ""

    @property
    def under_job(self) -> bool:
        """Whether it needs a job's id."""
        return any(JOB in word for word in self.command)


@dataclass(frozen=True, slots=True)
class Page:
    """One page.

    Parameters:
        purpose: what it is for, in a sentence or two.
        sections: of the settings that its commands need; they are shown, and what they name is tested, in this order.
        options: fields that go with every one of `actions`.
        job: the id of the job that these values begin, the same for the same values.
        kinds: of the jobs that the page lists.
        job_actions: what can be done with one of those.
    """

    title: str
    purpose: str
    sections: Sequence[str]
    options: Sequence[Option]
    actions: Sequence[Action]
    job: Callable[[Sources, Mapping[str, str]], str]
    kinds: frozenset[str]
    job_actions: Sequence[Action] = ()


def defaults(page: Page, today: date) -> dict[str, str]:
    """What stands in the fields at first."""
    found = {option.name: today.isoformat() for option in page.options if option.kind == "date"}
    return found | {option.name: option.choices[0][0] for option in page.options if option.choices}


def problems(page: Page, values: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with the fields, by the option's name."""
    found = {option.name: _problem(option, values.get(option.name, "")) for option in page.options}
    return {name: problem for name, problem in found.items() if problem is not None}


def arguments(options: Sequence[Option], action: Action, values: Mapping[str, str], files: str, job: str) -> list[str]:
    """The words of the command, each option a single one: no value can become an option of its own."""
    words = [word.replace(FILES, files).replace(JOB, job) for word in action.command]
    for option in options:
        value = values.get(option.name, "")
        if value:
            words.append(option.name if option.kind == "flag" else f"{option.name}={value}")
    return words


def _problem(option: Option, value: str) -> str | None:
    if not value:
        return None
    if "\0" in value or len(value) > LONGEST_TEXT:
        return "it is too long, or no text"
    if option.kind == "number" and not (value.isascii() and value.isdigit()):
        return "it must be a whole number"
    valid = [each for each, _ in option.choices] if option.kind == "choice" else [SET]
    if option.kind in ("choice", "flag") and value not in valid:
        return f"it must be one of: {', '.join(valid)}"
    if option.kind == "date":
        try:
            date.fromisoformat(value)
        except ValueError:
            return "it must be a date like 2026-01-31"
    return None
