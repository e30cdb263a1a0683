"""How far a stage is with the items of jobs, said on the jobs topic every other second while that changes.

For people who wait: nothing rests on it. An item's last word is replaced by whoever has its partition next.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from headrace.events import Progress
from headrace.stage.contract import Context
from headrace.topics import JOBS

EVERY_SECONDS = 2.0
PART = "progress"


class Heartbeat:
    """Tells of one stage's items.

    Parameters:
        stage: its name.
    """

    def __init__(self, context: Context, stage: str) -> None:
        self._context, self._stage = context, stage
        self._told: dict[tuple[str, str], tuple[float, Mapping[str, int]]] = {}

    def tell(
        self, job: str | None, item: str, figures: Mapping[str, int], dataset: str | None = None, *, last: bool = False
    ) -> None:
        """Say how far an item is, if that is news; of no job nothing is said.

        Parameters:
            figures: see `headrace.jobs.progress`.
            last: the item is done: say it now.
        """
        if job is None:
            return
        now = time.monotonic()
        due, told = self._told.get((job, item), (0.0, None))
        if figures != told and (last or now >= due):
            event = Progress(
                job=job, group=self._context.group, stage=self._stage, item=item, dataset=dataset,
                figures=dict(figures), at=time.time_ns() // 1000,
            )  # fmt: skip
            self._context.emit(JOBS, (job, PART, self._context.group, item), event)
            self._told[job, item] = (now + EVERY_SECONDS, dict(figures))
        if last:
            self._told.pop((job, item), None)

    def forget(self, job: str | None, item: str) -> None:
        """The item is somebody else's."""
        if job is not None:
            self._told.pop((job, item), None)
