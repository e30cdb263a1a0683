"""One ART node: its threads, its queue with back-pressure, its consumer. Source: reference art 3.5, 5.3."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum

from headrace_art.sandbox import consumer
from headrace_art.sandbox.batches import Batch
from headrace_art.sandbox.student import Student
from headrace_art.sandbox.tokens import TokenMemory
from headrace_art.sandbox.world import World

_TICK = 0.05
"""Seconds between two looks of a consumer that has a rate."""

_AT_ONCE = 500
"""Students consumed, or published without a pace, before others have a turn."""


class State(StrEnum):
    """How a node's queue is."""

    RUNNING = "running"
    FLOW = "flow"
    BLOCKED = "blocked"
    REFUSING = "refusing"


class BrokerRestarted(Exception):
    """The queue was emptied while a request waited to publish."""


class Node:
    """One of the nodes.

    Parameters:
        changed: awaited when the node begins or ceases to refuse connections.
    """

    def __init__(self, number: int, world: World, changed: Callable[[Node], Awaitable[None]]) -> None:
        self.number, self.world, self._changed = number, world, changed
        self.tokens = TokenMemory(number, world.provider, lambda: world.settings)
        self.queue: deque[tuple[Batch, Student | str]] = deque()
        self.state, self.down = State.RUNNING, False
        self._since = world.clock.now()
        self._busy = self.waiting = 0
        self._turns: deque[asyncio.Future[None]] = deque()
        self._poked = asyncio.Event()
        self._unblocked = asyncio.Event()
        self._restarts = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def reachable(self) -> bool:
        """Whether it takes connections."""
        return not self.down and self.state is not State.REFUSING

    def start(self) -> None:
        """Begin to consume."""
        self._task = asyncio.create_task(self._consume())

    async def stop(self) -> None:
        """Cease to consume."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def poke(self) -> None:
        """Look at the settings again."""
        self._poked.set()

    @asynccontextmanager
    async def thread(self) -> AsyncIterator[None]:
        """Hold one of the request threads, once one is free."""
        if self._busy >= self.world.settings.request_threads:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._turns.append(turn)
            self.waiting += 1
            await self._look()
            try:
                await turn
            finally:
                self.waiting -= 1
        else:
            self._busy += 1
        try:
            yield
        finally:
            while self._turns and self._turns[0].done():
                self._turns.popleft()
            if self._turns:
                self._turns.popleft().set_result(None)
            else:
                self._busy -= 1

    async def publish(self, batch: Batch, messages: Sequence[Student | str]) -> None:
        """Put one message for each student on the queue, as fast as back-pressure lets it.

        Raises BrokerRestarted if the queue was emptied meanwhile.
        """
        world, position, restarts = self.world, 0, self._restarts
        while position < len(messages):
            await self._room(batch, len(messages) - position, restarts)
            settings = world.settings
            room = max(1, int(settings.queue_max * settings.capacity) - len(self.queue))
            part = messages[position : position + min(room, _AT_ONCE)]
            self.queue.extend((batch, message) for message in part)
            position += len(part)
            world.counters.highest("queue_deepest", str(self.number), value=len(self.queue))
            self._poked.set()
            await self._look()
            seconds = len(part) * settings.publish_us / 1e6
            if self.state is State.FLOW and settings.consume_changed:
                seconds = max(seconds, len(part) / settings.consume_changed)
            await world.clock.sleep(seconds)

    async def restart_broker(self) -> int:
        """Empty the queue, which is not durable; how many students were lost."""
        lost = Counter(id(batch) for batch, _ in self.queue)
        batches = {id(batch): batch for batch, _ in self.queue}
        for identity, number in lost.items():
            self.world.lose(batches[identity], number)
        self.queue.clear()
        self._restarts += 1
        self.world.counters.count("broker_restarts", str(self.number))
        await self._enter(State.RUNNING)
        return sum(lost.values())

    async def kill(self) -> None:
        """Take it off: no connections, nothing consumed, no memory of tokens. Its queue stays."""
        self.down = True
        self.tokens.forget()
        await self._changed(self)

    async def restore(self) -> None:
        """Bring it back."""
        self.down = False
        self._poked.set()
        await self._changed(self)

    def account(self) -> None:
        """Count the time spent in the present state."""
        now = self.world.clock.now()
        self.world.counters.count("state_seconds", str(self.number), self.state.value, by=now - self._since)
        self._since = now

    async def _room(self, batch: Batch, rest: int, restarts: int) -> None:
        """Wait while the queue is blocked."""
        while self.state in (State.BLOCKED, State.REFUSING) and restarts == self._restarts:
            self._unblocked.clear()
            await self._unblocked.wait()
        if restarts != self._restarts:
            self.world.lose(batch, rest)
            raise BrokerRestarted

    async def _consume(self) -> None:
        """Take messages one by one, at the rates that are set."""
        world, free_at, idle = self.world, 0.0, True
        while True:
            settings = world.settings
            if not self.queue or self.down or settings.consume_changed == 0 or settings.consume_unchanged == 0:
                idle = True
                self._poked.clear()
                await self._poked.wait()
                continue
            now = world.clock.now()
            if idle:
                free_at, idle = max(free_at, now), False
            slow, fast = (1 / rate if rate else 0.0 for rate in (settings.consume_changed, settings.consume_unchanged))
            for _ in range(min(_AT_ONCE, len(self.queue))):
                if free_at > now:
                    break
                free_at += slow if self._process(*self.queue.popleft()) else fast
            await self._look()
            if not slow and not fast:
                free_at = now
            await world.clock.sleep(max(free_at - now, _TICK) if free_at > now else 0)

    def _process(self, batch: Batch, message: Student | str) -> bool:
        self.world.backlog -= 1
        if isinstance(message, str):
            return consumer.delete(self.world, batch, message)
        return consumer.upsert(self.world, batch, message)

    async def _look(self) -> None:
        """Move on in the state machine as the depth of the queue asks for."""
        settings, depth = self.world.settings, len(self.queue)
        if depth < settings.queue_max * settings.resume_at:
            await self._enter(State.RUNNING)
        elif depth >= settings.queue_max * settings.capacity or self.state in (State.BLOCKED, State.REFUSING):
            full = self._busy >= settings.request_threads and self.waiting >= max(settings.accept_backlog, 1)
            refusing = self.state is State.REFUSING or full
            await self._enter(State.REFUSING if refusing else State.BLOCKED)
        elif depth >= settings.queue_max * settings.flow_at:
            await self._enter(State.FLOW)

    async def _enter(self, state: State) -> None:
        if state is State.RUNNING:
            self._unblocked.set()
        if state is self.state:
            return
        self.account()
        refused = self.state is State.REFUSING
        self.state = state
        self.world.counters.count("states_entered", str(self.number), state.value)
        if refused or state is State.REFUSING:
            await self._changed(self)
