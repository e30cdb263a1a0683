"""The picture of who writes and who reads which topic, as SVG, generated from the families.

Topics stand in the middle; a service whose first business is to write stands on the left, one that reads on the right.
It is drawn for light and dark pages alike. Source: design section 2, `topics`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from headrace.families import Family, StageEntry, catalogue, named
from headrace.topics import Topic

WIDTH = 1100
SERVICE_WIDTH = 250
TOPIC_WIDTH = 280
BOX_HEIGHT = 74
GAP = 26
MARGIN = 24
TOP = 64
CHARACTERS = 42

_STYLE = """
  .page { fill: #ffffff } .title { fill: #1f2933; font-weight: 600; font-size: 15px }
  text { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2933 }
  .name { font-size: 15px; font-weight: 600 } .note { font-size: 11.5px; fill: #52606d }
  .service { fill: #f0f4f8; stroke: #829ab1 } .topic { fill: #e3f8ff; stroke: #2680c2 }
  .write { stroke: #2680c2 } .read { stroke: #8d2b94 } .write, .read { fill: none; stroke-width: 1.6 }
  .write-head { fill: #2680c2 } .read-head { fill: #8d2b94 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #11181f } .title, text { fill: #e4e7eb } .note { fill: #9fb3c8 }
    .service { fill: #1f2933; stroke: #627d98 } .topic { fill: #0b3a53; stroke: #4098d7 }
    .write { stroke: #4098d7 } .read { stroke: #ce80cf } .write-head { fill: #4098d7 } .read-head { fill: #ce80cf }
  }
"""


@dataclass(frozen=True)
class _Box:
    """A box, by its upper left corner."""

    x: float
    y: float
    width: float

    def point(self, side: str, index: int, count: int) -> tuple[float, float]:
        """Where the arrow number `index` of `count` meets the left or right side."""
        y = self.y + BOX_HEIGHT * (index + 1) / (count + 1)
        return (self.x if side == "left" else self.x + self.width), y


def draw(families: Iterable[Family], live: Mapping[str, str] | None = None, *, styled: bool = True) -> str:
    """The SVG text; the same families give the same text.

    Parameters:
        live: by name of a service or topic, a few words on how it is now.
        styled: with its style sheet inside; a page whose policy forbids that brings its own, for the same classes.
    """
    families = tuple(families)
    live = live or {}
    topics = _used(families)
    stages = [stage for family in families for stage in family.stages]
    names = [topic.name for topic in topics]
    writers = [stage for stage in stages if _first_writes(stage, names)]
    readers = [stage for stage in stages if stage not in writers]
    rows = max(len(writers), len(topics), len(readers), 1)
    height = TOP + rows * BOX_HEIGHT + (rows - 1) * GAP + 2 * MARGIN
    middle = (WIDTH - TOPIC_WIDTH) / 2
    left = _column(len(writers), MARGIN, SERVICE_WIDTH, height)
    center = _column(len(topics), middle, TOPIC_WIDTH, height)
    right = _column(len(readers), WIDTH - MARGIN - SERVICE_WIDTH, SERVICE_WIDTH, height)
    parts = [*_arrows(writers, left, "right", topics, center, "left")]
    parts += _arrows(readers, right, "left", topics, center, "right")
    for stage, box in zip([*writers, *readers], [*left, *right], strict=True):
        parts.append(_box(box, "service", stage.name, stage.purpose, live.get(stage.name)))
    for topic, box in zip(topics, center, strict=True):
        parts.append(_box(box, "topic", topic.name, topic.purpose, live.get(topic.name)))
    for title, x in (("services", MARGIN), ("topics", middle), ("services", WIDTH - MARGIN - SERVICE_WIDTH)):
        parts.append(f'<text class="title" x="{x:g}" y="{MARGIN + 16}">{title}</text>')
    parts += [
        _legend("write", "writes", MARGIN, height - MARGIN),
        _legend("read", "reads", MARGIN + 110, height - MARGIN),
    ]
    return "\n".join([_head(height, styled=styled), *parts, "</svg>", ""])


def _used(families: Sequence[Family]) -> list[Topic]:
    """The topics that somebody writes or reads, in the catalogue's order."""
    stages = [stage for family in families for stage in family.stages]
    return [topic for topic in catalogue(families) if any(stage.uses(topic.name) for stage in stages)]


def _first_writes(stage: StageEntry, order: Sequence[str]) -> bool:
    """Whether a service begins with writing: what it writes comes before what it reads."""
    first_write = min((index for index, name in enumerate(order) if named(name, stage.writes)), default=len(order))
    first_read = min((index for index, name in enumerate(order) if named(name, stage.reads)), default=len(order))
    return first_write < first_read


def _column(count: int, x: float, width: float, height: float) -> list[_Box]:
    used = count * BOX_HEIGHT + (count - 1) * GAP
    start = TOP + (height - TOP - MARGIN - used) / 2
    return [_Box(x, start + index * (BOX_HEIGHT + GAP), width) for index in range(count)]


def _arrows(
    stages: Sequence[StageEntry],
    boxes: Sequence[_Box],
    own_side: str,
    topics: Sequence[Topic],
    topic_boxes: Sequence[_Box],
    topic_side: str,
) -> list[str]:
    """All arrows between one column of services and the topics; ends are spread so that none hides another."""
    links = [
        (stage_index, topic_index, kind)
        for stage_index, stage in enumerate(stages)
        for kind, names in (("write", stage.writes), ("read", stage.reads))
        for topic_index, topic in enumerate(topics)
        if named(topic.name, names)
    ]
    parts = []
    for link in links:
        stage_index, topic_index, kind = link
        at_stage = sorted(each for each in links if each[0] == stage_index)
        at_stage.sort(key=lambda each: each[1])
        at_topic = sorted(each for each in links if each[1] == topic_index)
        here = boxes[stage_index].point(own_side, at_stage.index(link), len(at_stage))
        there = topic_boxes[topic_index].point(topic_side, at_topic.index(link), len(at_topic))
        start, end = (here, there) if kind == "write" else (there, here)
        parts.append(_arrow(start, end, kind))
    return parts


def _arrow(start: tuple[float, float], end: tuple[float, float], kind: str) -> str:
    bend = (end[0] - start[0]) / 2
    path = f"M{start[0]:.1f} {start[1]:.1f}C{start[0] + bend:.1f} {start[1]:.1f} {end[0] - bend:.1f} {end[1]:.1f} "
    return f'<path class="{kind}" d="{path}{end[0]:.1f} {end[1]:.1f}" marker-end="url(#{kind})"/>'


def _legend(kind: str, text: str, x: float, y: float) -> str:
    return _arrow((x, y), (x + 36, y), kind) + f'<text class="note" x="{x + 46:g}" y="{y + 4:g}">{text}</text>'


def _box(box: _Box, kind: str, name: str, note: str, live: str | None) -> str:
    lines = _wrapped(note, CHARACTERS if kind == "topic" else CHARACTERS - 5, 3 if live is None else 2)
    notes = [("note", line) for line in lines] + ([] if live is None else [("live", live)])
    first = box.y + (BOX_HEIGHT - 13 * len(notes) - 16) / 2 + 14
    texts = [f'<text class="name" x="{box.x + 12:g}" y="{first:g}">{escape(name)}</text>']
    for index, (style, line) in enumerate(notes):
        y = first + 16 + 13 * index + (3 if style == "live" else 0)
        texts.append(f'<text class="{style}" x="{box.x + 12:g}" y="{y:g}">{escape(line)}</text>')
    frame = f'<rect class="{kind}" x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{BOX_HEIGHT}" rx="8"/>'
    return frame + "".join(texts)


def _wrapped(text: str, characters: int, most: int) -> list[str]:
    """At most `most` lines; what does not fit is left out."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) + 1 > characters:
            if len(lines) == most:
                lines[-1] = lines[-1].rstrip(",;") + " …"
                break
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _head(height: float, *, styled: bool) -> str:
    markers = "".join(
        f'<marker id="{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path class="{kind}-head" d="M0 0L8 4L0 8z"/></marker>'
        for kind in ("write", "read")
    )
    style = f"<style>{_STYLE}</style>\n" if styled else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" '
        f'aria-label="Which service writes and reads which topic">\n{style}<defs>{markers}</defs>\n'
        f'<rect class="page" width="{WIDTH}" height="{height:g}" rx="12"/>'
    )
