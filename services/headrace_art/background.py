"""An event loop in a thread of its own: what a stage asks of ART while the loop that it belongs to keeps polling."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

Resource = TypeVar("Resource")

CLOSE_SECONDS = 5.0


class Background(Generic[Resource]):
    """Runs coroutines that share one resource, such as a client; all of them are cancelled at the end.

    Parameters:
        make: makes the resource, in the thread.
        failed: told what a coroutine raised that it should have handled.
    """

    def __init__(
        self, make: Callable[[], AbstractAsyncContextManager[Resource]], failed: Callable[[BaseException], None]
    ) -> None:
        self._make, self._failed = make, failed
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._end = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="art", daemon=True)

    def start(self) -> None:
        """Begin, and wait until the resource is there."""
        self._thread.start()
        self._ready.wait()

    def submit(self, work: Callable[[Resource], Coroutine[Any, Any, None]]) -> None:
        """Run `work` soon. From any thread."""
        self._loop.call_soon_threadsafe(self._begin, work)

    def close(self) -> None:
        """Cancel what runs, and end."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(CLOSE_SECONDS)

    def _begin(self, work: Callable[[Resource], Coroutine[Any, Any, None]]) -> None:
        if self._end.is_set():
            return
        task = self._loop.create_task(self._guarded(work(self._resource)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - told to the stage, whose thread raises it
            self._failed(error)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._main())
        except Exception as error:  # noqa: BLE001 - told to the stage, whose thread raises it
            self._failed(error)
        finally:
            self._ready.set()
            self._loop.close()

    async def _main(self) -> None:
        async with self._make() as self._resource:
            self._ready.set()
            await self._end.wait()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
