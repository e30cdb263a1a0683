"""The one place that knows the HTTP library: a request in, an answer out, or an error that says how far it got."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit

import aiohttp

from headrace_art.client.errors import AnswerLost, ArtUnreachable, CertificateRefused
from headrace_art.client.settings import ArtSettings

_PIECE = 1 << 17


@dataclass(frozen=True)
class Answer:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    kind: str


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


class AiohttpTransport:
    """Connections that are kept and shared. An asynchronous context manager."""

    def __init__(self, settings: ArtSettings) -> None:
        self._settings = settings

    async def __aenter__(self) -> Self:
        settings = self._settings
        context: ssl.SSLContext | bool = settings.tls_check
        if settings.tls_check and settings.ca_file is not None:
            context = ssl.create_default_context(cafile=settings.ca_file)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=settings.connections, ssl=context),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

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
        data: bytes | AsyncIterator[bytes] | None = body
        if body is not None and may_act is not None:
            headers = {**headers, "Content-Length": str(len(body))}
            data = _guarded(body, may_act)
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=self._settings.connect_timeout.total_seconds())
        address = urlsplit(url).netloc.rpartition("@")[2]
        try:
            async with self._session.request(
                method, url, headers=headers, data=data, timeout=limits, allow_redirects=False
            ) as response:
                content = await response.read()
                return Answer(response.status, response.headers, content, response.content_type)
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise CertificateRefused(address=address, problem=type(error).__name__) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise ArtUnreachable(address=address, problem=_problem(error)) from error
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise AnswerLost(address=address, problem=_problem(error)) from error


class _MayNotAct(Exception):
    """The process was paused while the body went out."""


async def _guarded(body: bytes, may_act: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The body in pieces. Without the last one the other side does nothing, so that one is kept back."""
    view = memoryview(body)
    for start in range(0, len(body), _PIECE):
        if not may_act():
            raise _MayNotAct
        # A view would save a copy, and aiohttp wants bytes.
        yield bytes(view[start : start + _PIECE])


def _problem(error: BaseException) -> str:
    """What happened, by its kind only: a message might repeat what was sent."""
    if isinstance(error, TimeoutError):
        return "it took too long"
    text = error.strerror if isinstance(error, OSError) else None
    return text or type(error).__name__
