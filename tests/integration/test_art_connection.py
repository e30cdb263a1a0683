"""HTTP as servers in the wild speak it: the client's own connections against one that says what a test tells it to."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from headrace_art.client.connection import Answer, Connection
from headrace_art.client.errors import AnswerLost, ArtUnreachable
from headrace_art.client.settings import ArtSettings
from headrace_art.client.transport import PooledTransport

HELLO = b"HTTP/1.1 200 OK\r\nContent-Type: application/JSON; charset=UTF-8\r\nContent-Length: 5\r\n\r\nhello"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Send = Callable[..., Awaitable[Answer]]


async def request(reader: asyncio.StreamReader) -> bytes:
    """One request, whole."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), 0)
    return head + await reader.readexactly(length)


@contextlib.asynccontextmanager
async def served(serve: Serve, scheme: str = "http", target: str = "/rest?x=1") -> AsyncIterator[Send]:
    """A server whose connections are dealt with by `serve`, and what sends to it."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}{target}"
    settings = ArtSettings(username="u", password="p", client_id="c", client_secret="s", url="http://localhost/rest")  # type: ignore[arg-type]
    try:
        async with PooledTransport(settings) as transport:

            async def send(
                method: str = "GET", body: bytes | None = None, may_act: Callable[[], bool] | None = None
            ) -> Answer:
                return await transport.send(method, url, {"Accept": "application/json"}, body, 5, may_act)

            yield send
    finally:
        server.close()


def run(serve: Serve, scenario: Callable[[Send], Awaitable[None]], **address: str) -> None:
    async def both() -> None:
        async with served(serve, **address) as send:
            await scenario(send)

    asyncio.run(asyncio.wait_for(both(), 20))


def answering(*answers: bytes, close: bool = False) -> Serve:
    """Answers each request of a connection with the next of these."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await request(reader)
            writer.write(answer)
        if close:
            writer.close()

    return serve


@pytest.mark.parametrize(
    "answer",
    [
        HELLO,
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n"
        b"3\r\nllo\r\n0\r\nContent-Type: text/html\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO,
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nContent-Type: text/html\r\n\r\nhello",
    ],
    ids=["length", "chunks", "interim", "until the end"],
)
def test_an_answer_is_whole_however_its_end_is_told(answer):
    async def scenario(send: Send) -> None:
        found = await send()
        assert (found.status, found.body, found.kind) == (200, b"hello", "application/json")

    run(answering(answer, close=True), scenario)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
        b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" * 5000,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
        b"",
    ],
    ids=[
        "no HTTP", "half", "half of the chunks", "endless head", "endless hints", "another protocol", "go on", "hints",
        "nothing",
    ],
)  # fmt: skip
def test_what_is_no_whole_answer_is_a_lost_one(answer):
    async def scenario(send: Send) -> None:
        unhandled: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        with pytest.raises(AnswerLost):
            await send("POST", b"{}")
        assert not unhandled

    run(answering(answer, close=True), scenario)


@pytest.mark.parametrize("first", [b"HTTP/1.1 204 No Content\r\n\r\n", HELLO], ids=["no length", "length"])
@pytest.mark.parametrize("second", [b"", b"HTTP/1.1 200 O"], ids=["nothing", "half a head"])
def test_the_answer_to_one_request_is_never_taken_for_that_to_the_next(first, second):
    async def scenario(send: Send) -> None:
        assert (await send("POST", b"{}")).status < 300
        with pytest.raises(AnswerLost):
            await send("POST", b"{}")

    run(answering(first, second, close=True), scenario)


@pytest.mark.parametrize(
    "head", [b"Content-Length: 99999999999", b"Connection: close"], ids=["which is told", "which is not"]
)
def test_an_answer_without_bound_is_given_up(head):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(bytes(1 << 20))
                await writer.drain()

    async def scenario(send: Send) -> None:
        with pytest.raises(AnswerLost, match="larger than 64 MiB"):
            await send()

    run(serve, scenario)


async def connected(kind: type[Connection], serve: Serve, scenario: Callable[[Connection], Awaitable[None]]) -> None:
    """A connection of this kind to a server of its own."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(kind, *server.sockets[0].getsockname())
    try:
        await scenario(connection)
    finally:
        connection.abort()
        server.close()


def test_a_connection_that_the_server_ends_takes_no_request_from_that_moment_on():
    class Noted(Connection):
        def eof_received(self) -> None:
            super().eof_received()
            seen.set_result(self.ready)

    async def scenario(connection: Connection) -> None:
        await connection.exchange(b"GET / HTTP/1.1\r\n\r\n", None, connection_deadline(), None)
        assert await seen is False

    async def all_of_it() -> None:
        nonlocal seen
        seen = asyncio.get_running_loop().create_future()
        await connected(Noted, answering(HELLO, close=True), scenario)

    seen: asyncio.Future[bool]
    asyncio.run(asyncio.wait_for(all_of_it(), 20))


def test_a_connection_whose_user_is_cancelled_is_closed_though_the_answer_came():
    class Late(Connection):
        def on_message_complete(self) -> None:
            super().on_message_complete()
            asking.cancel()

    async def scenario(connection: Connection) -> None:
        nonlocal asking
        asking = asyncio.ensure_future(
            connection.exchange(b"GET / HTTP/1.1\r\n\r\n", None, connection_deadline(), None)
        )
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not connection.ready

    asking: asyncio.Future[Answer]
    asyncio.run(asyncio.wait_for(connected(Late, answering(HELLO, b""), scenario), 20))


def connection_deadline() -> float:
    return asyncio.get_running_loop().time() + 5


def test_one_connection_carries_one_request_after_the_other():
    connections = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await answering(*[HELLO] * 9)(reader, writer)

    async def scenario(send: Send) -> None:
        for _ in range(9):
            assert (await send("POST", b"{}")).body == b"hello"
        assert len(connections) == 1

    run(serve, scenario)


def test_what_a_server_says_unasked_is_no_answer_to_the_next_request():
    said = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(HELLO + HELLO.replace(b"hello", b"ghost"))
        said.set()
        await reader.read()

    async def scenario(send: Send) -> None:
        assert (await send()).body == b"hello"
        await said.wait()
        assert (await send()).body == b"hello"

    run(serve, scenario)


def test_a_connection_that_was_closed_while_idle_costs_a_read_nothing_and_a_write_is_not_repeated_unseen():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(HELLO)
        await request(reader)
        writer.close()

    async def scenario(send: Send) -> None:
        for _ in range(3):
            assert (await send("GET")).body == b"hello"
        with pytest.raises(AnswerLost):
            await send("POST", b"{}")

    run(serve, scenario)


def test_a_large_body_that_is_refused_early_is_answered_and_not_sent_to_its_end():
    asked: list[None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await asyncio.Event().wait()

    def may_act() -> bool:
        asked.append(None)
        return True

    async def scenario(send: Send) -> None:
        began = time.monotonic()
        assert (await send("POST", b"x" * 64_000_000, may_act)).status == 413
        assert time.monotonic() - began < 2
        assert len(asked) < 200

    run(serve, scenario)


def test_a_body_is_not_completed_by_who_may_not_act_any_more():
    got = bytearray()
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                got.extend(data)
        ended.set()

    left = [True, True, True, False]

    async def scenario(send: Send) -> None:
        with pytest.raises(AnswerLost, match="paused"):
            await send("POST", b"x" * 1_000_000, lambda: left.pop(0))
        await ended.wait()
        assert 0 < len(got) < 500_000

    run(serve, scenario)


def test_a_server_that_speaks_no_tls_for_a_while_is_waited_for():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")

    async def scenario(send: Send) -> None:
        with pytest.raises(ArtUnreachable):
            await send()

    run(serve, scenario, scheme="https")


@pytest.mark.parametrize(
    ("target", "line"),
    [("?realm=/x", b"/?realm=/x"), ("", b"/"), ("/a//b?c=/d?e", b"/a//b?c=/d?e")],
    ids=["no path", "nothing", "slashes"],
)
def test_what_is_asked_for_is_what_the_address_says(target, line):
    asked = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.extend(await request(reader))
        writer.write(HELLO)

    async def scenario(send: Send) -> None:
        await send()
        assert bytes(asked).startswith(b"GET " + line + b" HTTP/1.1\r\nHost: 127.0.0.1:")

    run(serve, scenario, target=target)
