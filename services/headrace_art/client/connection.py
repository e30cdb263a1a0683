"""One connection of HTTP/1.1: a request out, its answer in, one after the other. Source: RFC 9112."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple, cast

import httptools

_PIECE = 1 << 17
_LONGEST_HEAD = 1 << 16
_LONGEST_ANSWER = 64 << 20
_FINAL = 200
_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})


class Answer(NamedTuple):
    """What came back, whole. Names of headers are in title case: `Content-Type`; `kind` is that one's bare value."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    kind: str


@lru_cache(maxsize=256)
def _titled(name: bytes) -> str:
    return name.decode("latin-1").title()


class ConnectionBroken(ConnectionError):
    """The connection ended, or what came over it is no answer."""


class Connection(asyncio.Protocol):
    """A connection to one server, for one request at a time.

    `heard` says whether anything came since the last request; `reusable`, whether the other side lets another one
    follow; `idle_since` is the owner's, in the event loop's time.
    """

    def __init__(self) -> None:
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Answer] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._paused = False
        self._status = self._size = 0
        self._headed = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self.heard = False
        self.reusable = True
        self.requests = 0
        self.idle_since = 0.0

    @property
    def ready(self) -> bool:
        """Whether another request can go out on it now."""
        return self.reusable and not self._transport.is_closing()

    async def exchange(
        self, head: bytes, body: bytes | None, deadline: float, may_act: Callable[[], bool] | None
    ) -> Answer:
        """Send a request and wait for its answer.

        Parameters:
            deadline: when to give up, in the event loop's time.
            may_act: asked before each piece of the body. Without the last piece the other side does nothing.

        Raises OSError, of which TimeoutError is one; then the connection is of no use any more.
        """
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._answer = answer
        self.reusable, self.heard = False, False
        # Nothing of the answer before may be taken for this one's.
        self._status, self._size, self._headed, self._headers, self._body = 0, 0, False, [], []
        self.requests += 1
        timer = self._loop.call_at(deadline, self._fail, TimeoutError())
        try:
            if body is None or (may_act is None and len(body) <= _PIECE):
                self._transport.write(head if body is None else head + body)
            else:
                await self._send(head, body, answer, may_act)
            return await answer
        except BaseException:
            self.reusable = False  # who is cancelled leaves it to nobody, though it was answered meanwhile
            raise
        finally:
            timer.cancel()
            self._answer = None
            if not self.reusable:
                self.abort()

    def abort(self) -> None:
        """End the connection at once."""
        self.reusable = False
        self._transport.abort()

    async def _send(
        self, head: bytes, body: bytes, answer: asyncio.Future[Answer], may_act: Callable[[], bool] | None
    ) -> None:
        self._transport.write(head)
        view = memoryview(body)
        for start in range(0, len(body), _PIECE):
            if self._paused:
                self._writable = self._loop.create_future()
                await self._writable
            if answer.done():
                return  # it was refused before all of it was read, or the connection is gone
            if may_act is not None and not may_act():
                raise ConnectionBroken("this process was paused meanwhile")
            self._transport.write(view[start : start + _PIECE])

    def _fail(self, error: Exception) -> None:
        self.reusable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self._wake()

    def _wake(self) -> None:
        """Whoever waits to send more is to look again."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def _settle(self, *, reusable: bool) -> None:
        if self._answer is None or self._answer.done():
            return
        # Of equal names the first one counts.
        headers = {_titled(name): value.decode("latin-1") for name, value in reversed(self._headers)}
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self.reusable = reusable and not self._paused and not self._transport.is_closing()
        self._answer.set_result(Answer(self._status, headers, body, kind))
        self._wake()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self._transport = cast("asyncio.Transport", transport)

    def eof_received(self) -> None:
        """The other side says no more; the connection is closed next."""
        self.reusable = False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone. An answer without a length ends here."""
        self._parser = None
        if exc is None and self._headed and not any(name.lower() in _LENGTHS for name, _ in self._headers):
            self._settle(reusable=False)
        self._fail(exc if isinstance(exc, OSError) else ConnectionBroken("the connection was closed"))

    def pause_writing(self) -> None:
        """The other side is slow."""
        self._paused = True

    def resume_writing(self) -> None:
        """More may be sent."""
        self._paused = False
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Something of the answer came."""
        if self._answer is None or self._parser is None:
            self.abort()  # nobody asked
            return
        self.heard = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(ConnectionBroken(type(error).__name__))
        self._size += len(data)
        if self._size > _LONGEST_ANSWER:
            self._fail(ConnectionBroken(f"it is larger than {_LONGEST_ANSWER >> 20} MiB"))
        elif self._size > _LONGEST_HEAD and not self._headed:
            self._fail(ConnectionBroken("the answer's head has no end"))

    # What the parser calls.

    def on_message_begin(self) -> None:
        """An answer begins, or something that nobody asked for."""
        if self._answer is None or self._answer.done():
            self.reusable = False
        self._headed, self._headers, self._body = False, [], []

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; those that follow a body are nothing to us."""
        if not self._headed:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The body begins, if the answer is final."""
        if self._parser is not None:
            self._status = self._parser.get_status_code()
            self._headed = self._status >= _FINAL

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._body.append(data)

    def on_message_complete(self) -> None:
        """The answer is whole; one that is not final is followed by another."""
        if self._headed and self._parser is not None:
            self._settle(reusable=self._parser.should_keep_alive())
