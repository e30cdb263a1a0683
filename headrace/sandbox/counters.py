"""What a stand-in has seen, for tests and people to look at."""

from __future__ import annotations

from collections import defaultdict
from typing import Any


class Counters:
    """Counts by name and labels: `count("requests", "batch", "202")` is `{"requests": {"batch": {"202": 1}}}`."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[str, ...], float] = defaultdict(int)

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """Add to one count."""
        self._counts[name, *labels] += by

    def highest(self, name: str, *labels: str, value: float) -> None:
        """Keep the largest value seen."""
        key = (name, *labels)
        if value > self._counts[key]:
            self._counts[key] = value

    def get(self, name: str, *labels: str) -> float:
        """One count; the sum of all below it, if it has labels beneath."""
        wanted = (name, *labels)
        return sum(value for key, value in self._counts.items() if key[: len(wanted)] == wanted)

    def clear(self) -> None:
        """Forget everything."""
        self._counts.clear()

    def as_tree(self) -> dict[str, Any]:
        """All counts, nested by label, in the order of names."""
        tree: dict[str, Any] = {}
        for (name, *labels), value in sorted(self._counts.items()):
            below, key = tree, name
            for label in labels:
                below, key = below.setdefault(key, {}), label
            below[key] = value
        return tree
