"""A listener of HTTP that can refuse connections, and answers that break on the way."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from headrace.errors import ConfigError
from headrace.sandbox.clock import Clock
from headrace.sandbox.counters import Counters
from headrace.sandbox.faults import Fault

_SECOND_OF_LORIS = 1.0
_BACKLOG = 512


class ListenPortTaken(ConfigError):
    """Port {port} of {host}, where the stand-in is to listen, is in use; choose another one with {option}."""

    code = "listen-port-taken"


@dataclass(frozen=True)
class Reply:
    """An answer before it is sent."""

    status: int
    body: bytes = b""
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


Answering = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class _Server(web.Server):
    """Counts connections, and reads bodies of any size."""

    def __init__(self, answer: Answering, counters: Counters, name: str) -> None:
        super().__init__(answer, request_factory=self._request, access_log=None)
        self._counters, self._name = counters, name

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        self._counters.count("connections", self._name)
        super().connection_made(handler, transport)

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop, client_max_size=0)


class Listener:
    """One port: open it, close it so that connections are refused, open it again.

    Parameters:
        name: how its connections are counted.
        port: 0 takes a free one, and keeps it.
    """

    def __init__(
        self,
        name: str,
        answer: Answering,
        counters: Counters,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.name, self.host, self.port = name, host, port
        self._answer, self._counters, self._tls = answer, counters, tls
        self._server: _Server | None = None
        self._socket: asyncio.AbstractServer | None = None

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    @property
    def listening(self) -> bool:
        """Whether connections are taken."""
        return self._socket is not None

    async def open(self) -> None:
        """Take connections; nothing if it does already.

        Raises ListenPortTaken.
        """
        if self._socket is not None:
            return
        if self._server is None:
            self._server = _Server(self._answer, self._counters, self.name)
        loop = asyncio.get_running_loop()
        try:
            self._socket = await loop.create_server(
                self._server, self.host, self.port, ssl=self._tls, reuse_address=True, backlog=_BACKLOG
            )
        except OSError as error:
            raise ListenPortTaken(port=self.port, host=self.host, option="--port") from error
        bound: socket.socket = self._socket.sockets[0]
        self.port = bound.getsockname()[1]

    def refuse(self) -> None:
        """Refuse new connections; those that are open stay."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def cut(self) -> None:
        """Break every open connection."""
        for connection in self._server.connections if self._server else ():
            if connection.transport is not None:
                connection.transport.abort()

    async def close(self) -> None:
        """End it for good."""
        self.refuse()
        if self._server is not None:
            await self._server.shutdown(timeout=0.1)
            self._server = None


async def send(request: web.BaseRequest, reply: Reply, fault: Fault | None, clock: Clock) -> web.StreamResponse:
    """Send an answer, or break it as the fault says: `drop_after`, `truncate_body` and `slow_loris` act here."""
    if fault is not None and fault.action == "drop_after":
        return drop(request)
    headers = {"Content-Type": reply.kind, **reply.headers} if reply.body else dict(reply.headers)
    if fault is None or fault.action not in ("truncate_body", "slow_loris"):
        return web.Response(status=reply.status, body=reply.body, headers=headers)
    response = web.StreamResponse(status=reply.status, headers=headers)
    response.content_length = max(len(reply.body), 1)
    await response.prepare(request)
    try:
        if fault.action == "truncate_body":
            await response.write(reply.body[: len(reply.body) // 2])
            return drop(request)
        for position in range(len(reply.body)):
            await response.write(reply.body[position : position + 1])
            await clock.sleep(_SECOND_OF_LORIS)
    except ConnectionError:
        return drop(request)
    return response


def drop(request: web.BaseRequest) -> web.StreamResponse:
    """Cut the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
