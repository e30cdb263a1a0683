"""The one place that knows how HTTP is spoken: a request in, an answer out, or an error that says how far it got."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import SplitResult, urlsplit

from headrace_art.client.connection import Answer, Connection, ConnectionBroken
from headrace_art.client.errors import AnswerLost, ArtUnreachable, CertificateRefused
from headrace_art.client.settings import ArtSettings

_KEPT_SECONDS = 15.0
"""A connection that was idle for longer is not used again: servers close theirs after about 20 s."""

_SECOND_ADDRESS_SECONDS = 0.25
_REPEATABLE = frozenset({"GET", "PUT", "DELETE"})
_PORTS = {"http": 80, "https": 443}


class Transport(Protocol):
    """Sends requests. Redirects are answers, too."""

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout: float,
        may_act: Callable[[], bool] | None = None,
    ) -> Answer:
        """Send one request.

        Parameters:
            timeout: seconds for all of it.
            may_act: whether the request may still be completed; asked while the body goes out.

        Raises ArtUnreachable if nothing was sent, AnswerLost if that is unknown, CertificateRefused.
        """


@dataclass(eq=False)
class _Origin:
    """A server, and the connections to it that are not in use: the last one used is used first."""

    host: str
    port: int
    address: str
    context: ssl.SSLContext | None
    idle: list[Connection] = field(default_factory=list)

    @cached_property
    def always(self) -> str:
        """The headers of every request."""
        return f"Host: {self.address}\r\nAccept-Encoding: identity\r\nUser-Agent: headrace"

    def take(self, now: float) -> Connection | None:
        """A connection that can be used again."""
        while self.idle:
            connection = self.idle.pop()
            if connection.ready and now - connection.idle_since < _KEPT_SECONDS:
                return connection
            connection.abort()
        return None


class PooledTransport:
    """Connections that are kept and shared. An asynchronous context manager."""

    def __init__(self, settings: ArtSettings) -> None:
        self._settings = settings
        self._connect_seconds = settings.connect_timeout.total_seconds()
        self._origins: dict[tuple[str, str], _Origin] = {}

    async def __aenter__(self) -> Self:
        settings = self._settings
        self._loop = asyncio.get_running_loop()
        self._turns = asyncio.Semaphore(settings.connections)
        self._context = ssl.create_default_context(cafile=settings.ca_file if settings.tls_check else None)
        if not settings.tls_check:
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for origin in self._origins.values():
            for connection in origin.idle:
                connection.abort()
            origin.idle.clear()
        await asyncio.sleep(0)  # they end in the loop's next turn

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout: float,
        may_act: Callable[[], bool] | None = None,
    ) -> Answer:
        """Send one request; see `Transport`."""
        parts = urlsplit(url)
        origin = self._origins.get((parts.scheme, parts.netloc)) or self._new_origin(parts)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [
            f"{method} {target} HTTP/1.1",
            origin.always,
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
        deadline = self._loop.time() + timeout
        await self._turn(origin, deadline)
        try:
            return await self._ask(origin, head, body, deadline, may_act, repeatable=method in _REPEATABLE)
        finally:
            self._turns.release()

    async def _turn(self, origin: _Origin, deadline: float) -> None:
        if not self._turns.locked():
            await self._turns.acquire()
            return
        try:
            async with asyncio.timeout_at(deadline):
                await self._turns.acquire()
        except TimeoutError as error:
            raise ArtUnreachable(address=origin.address, problem=_problem(error)) from error

    async def _ask(
        self,
        origin: _Origin,
        head: bytes,
        body: bytes | None,
        deadline: float,
        may_act: Callable[[], bool] | None,
        *,
        repeatable: bool,
    ) -> Answer:
        while True:
            connection = origin.take(self._loop.time()) or await self._connect(origin, deadline)
            try:
                answer = await connection.exchange(head, body, deadline, may_act)
            except OSError as error:
                unheard = connection.requests > 1 and not connection.heard and not isinstance(error, TimeoutError)
                if unheard and repeatable:
                    continue  # the server closed it while it was idle
                raise AnswerLost(address=origin.address, problem=_problem(error)) from error
            if connection.ready:
                connection.idle_since = self._loop.time()
                origin.idle.append(connection)
            return answer

    async def _connect(self, origin: _Origin, deadline: float) -> Connection:
        try:
            async with asyncio.timeout_at(min(deadline, self._loop.time() + self._connect_seconds)):
                _, connection = await self._loop.create_connection(
                    Connection,
                    origin.host,
                    origin.port,
                    ssl=origin.context,
                    happy_eyeballs_delay=_SECOND_ADDRESS_SECONDS,
                )
        except ssl.SSLCertVerificationError as error:
            raise CertificateRefused(address=origin.address, problem=type(error).__name__) from error
        except OSError as error:
            raise ArtUnreachable(address=origin.address, problem=_problem(error)) from error
        return connection

    def _new_origin(self, parts: SplitResult) -> _Origin:
        # Who is in front of the @ is nobody's business.
        address = parts.netloc.rpartition("@")[2]
        context = self._context if parts.scheme == "https" else None
        origin = _Origin(parts.hostname or "", parts.port or _PORTS[parts.scheme], address, context)
        self._origins[parts.scheme, parts.netloc] = origin
        return origin


def _problem(error: BaseException) -> str:
    """What happened, in words that cannot repeat what was sent."""
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, ConnectionBroken):
        return str(error)
    text = error.strerror if isinstance(error, OSError) else None
    return text or type(error).__name__
