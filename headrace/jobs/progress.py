"""How far the stages of a job are: sums of what they say of their items, and how long it still takes. Pure.

What `figures` hold, each if the stage has it: `bytes` of `bytes_total`, `rows` of `rows_total`, `entities` (districts
and schools) of `entities_total`; `batches` that ART has processed; `backlog`, students that ART has taken and not
processed. Who makes a new one adds it here.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from headrace.events import Books, Progress

FIGURES = (
    "bytes", "bytes_total", "rows", "rows_total", "entities", "entities_total", "batches", "backlog",
)  # fmt: skip
MEASURES = ("entities", "rows", "bytes")
"""Of these the first that has a total is what a stage has to do."""
RATE_SECONDS = 30.0
"""How far back speed is looked at."""


@dataclass(frozen=True, slots=True)
class StageProgress:
    """How far one stage is.

    Parameters:
        group: its consumer group; None of a source.
        dataset: of its rows.
        file: of a source.
        seconds_left: None while nobody can tell.
    """

    stage: str
    group: str | None
    figures: Mapping[str, int]
    dataset: str | None = None
    file: str | None = None
    seconds_left: float | None = None

    @property
    def measure(self) -> str | None:
        """What it has to do: one of MEASURES."""
        return next((each for each in MEASURES if f"{each}_total" in self.figures), None)

    @property
    def done(self) -> int | None:
        """How much of it is done."""
        return None if self.measure is None else self.figures.get(self.measure, 0)

    @property
    def total(self) -> int | None:
        """How much there is."""
        return None if self.measure is None else self.figures[f"{self.measure}_total"]

    def as_json(self) -> dict[str, object]:
        """As plain values; what is not known is null."""
        left = None if self.seconds_left is None else round(self.seconds_left)
        figures = {name: self.figures.get(name) for name in FIGURES}
        return {
            "stage": self.stage, "group": self.group, "dataset": self.dataset, "file": self.file, **figures,
            "seconds_left": left,
        }  # fmt: skip


def stages(items: Iterable[Progress], books: Sequence[Books] = ()) -> list[StageProgress]:
    """The stages of a job from what was said of its items, each dataset by itself.

    Who reads records does not know how many there are before the last one: the fan-out does, then the books.
    """
    found: defaultdict[tuple[str, str, str | None], Counter[str]] = defaultdict(Counter)
    records: Counter[str | None] = Counter()
    for each in items:
        found[each.stage, each.group, each.dataset].update(each.figures)
        if "bytes" in each.figures:
            records[each.dataset] += each.figures.get("rows_total", 0)
    expected = {book.group: book.expected for book in books}
    for (_, group, dataset), figures in found.items():
        if "bytes" not in figures and "entities_total" not in figures:
            total = expected.get(group) or records[dataset]
            if total:
                figures["rows_total"] = max(total, figures["rows"])
    made = [StageProgress(stage, group, dict(figures), dataset) for (stage, group, dataset), figures in found.items()]
    return sorted(made, key=lambda each: ("bytes" not in each.figures, each.dataset or "", each.stage))


@dataclass(slots=True)
class Speed:
    """How fast stages go, by what was seen in the last seconds."""

    _seen: dict[tuple[str | None, ...], deque[tuple[float, int]]] = field(default_factory=dict)

    def timed(self, stage: StageProgress, now: float) -> StageProgress:
        """The same with the time that is left, `now` in monotonic seconds."""
        if stage.done is None or stage.total is None:
            return stage
        seen = self._seen.setdefault((stage.stage, stage.dataset, stage.file, stage.measure), deque())
        if seen and stage.done < seen[-1][1]:
            seen.clear()
        seen.append((now, stage.done))
        while now - seen[0][0] > RATE_SECONDS:
            seen.popleft()
        (began, before), left = seen[0], stage.total - stage.done
        if not left:
            return replace(stage, seconds_left=0.0)
        if stage.done <= before or now <= began:
            return stage
        return replace(stage, seconds_left=left * (now - began) / (stage.done - before))
