"""Many calls at once, over any number of items, without holding them all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")


async def for_each(items: Iterable[Item], work: Callable[[Item], Awaitable[None]], workers: int) -> None:
    """Call `work` for every item, `workers` at once. The first error ends all and is raised as it is."""
    await Crew(workers).for_each(items, work)


class Crew:
    """So many workers, for whoever has something to be done: who comes later has them when they become free.

    For one event loop.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._free = asyncio.Semaphore(workers)

    async def for_each(self, items: Iterable[Item], work: Callable[[Item], Awaitable[None]]) -> None:
        """Call `work` for every item. The first error ends all and is raised as it is."""
        waiting = iter(items)

        async def run() -> None:
            async with self._free:
                for item in waiting:
                    await work(item)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(run())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
