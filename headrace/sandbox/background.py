"""Runs a stand-in in a thread of its own, for tests and commands that are not asynchronous themselves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

Result = TypeVar("Result")


class Served(Protocol):
    """Something that is started and stopped in an event loop."""

    async def start(self) -> None:
        """Begin to serve."""

    async def stop(self) -> None:
        """End."""


Server = TypeVar("Server", bound=Served)


class Background(Generic[Server]):
    """A context manager: the stand-in serves in another thread while the block runs.

    Parameters:
        make: called in that thread; returns the stand-in.
    """

    def __init__(self, make: Callable[[], Server]) -> None:
        self._make = make
        self._ready: Future[Server] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="sandbox", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.server = self._ready.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def call(self, work: Callable[[Server], Awaitable[Result] | Result]) -> Result:
        """Do something with the stand-in in its own thread, and return what comes of it."""

        async def inside() -> Any:
            outcome = work(self.server)
            return await outcome if asyncio.iscoroutine(outcome) else outcome

        result: Result = asyncio.run_coroutine_threadsafe(inside(), self._loop).result()
        return result

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        try:
            server = self._make()
            await server.start()
        except BaseException as error:  # noqa: BLE001 - raised where the block begins
            self._ready.set_exception(error)
            return
        self._ready.set_result(server)
        await self._ended.wait()
        await server.stop()
