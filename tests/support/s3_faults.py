"""A proxy in front of the real S3 server that makes it unwell on demand, and counts what passes.

Requests are forwarded byte for byte, the Host header included, so signatures stay valid.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Kind = Literal["500", "503", "slow", "reset", "lost-answer"]
Match = Callable[[str, str], bool]

WRITES = frozenset({"PUT", "POST", "DELETE"})


@dataclass
class Fault:
    """What happens to the next `times` requests that match (None: until it is taken back).

    `lost-answer` lets the server do its work and cuts the connection before the answer; `slow` waits `seconds` first.
    """

    kind: Kind
    times: int | None = None
    match: Match = field(default=lambda _method, _path: True)
    seconds: float = 0.5
    hits: int = 0


class FaultyS3:
    """The proxy; a context manager. `endpoint` is what clients are told."""

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.requests: list[tuple[str, str]] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def fail(
        self, kind: Kind, times: int | None = None, match: Match = lambda _method, _path: True, seconds: float = 0.5
    ) -> Fault:
        """Plan a fault; the oldest that matches a request is the one that happens."""
        fault = Fault(kind, times, match, seconds)
        with self._lock:
            self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """Take all faults back."""
        with self._lock:
            self._faults.clear()

    def writes(self) -> list[tuple[str, str]]:
        """Requests that could change something, in order."""
        return [request for request in self.requests if request[0] in WRITES]

    def take(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.requests.append((method, path))
            for fault in self._faults:
                if fault.match(method, path):
                    fault.hits += 1
                    if fault.times is not None and fault.hits >= fault.times:
                        self._faults.remove(fault)
                    return fault
        return None

    def __enter__(self) -> FaultyS3:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(proxy: FaultyS3) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            self.upstream = http.client.HTTPConnection("127.0.0.1", proxy.upstream_port, timeout=120)

        def finish(self) -> None:
            self.upstream.close()
            with contextlib.suppress(OSError):
                super().finish()

        def log_message(self, *_: object) -> None:
            pass

        def _pass(self) -> None:
            fault = proxy.take(self.command, self.path)
            kind = fault.kind if fault else None
            if kind == "reset":
                self._reset()
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if kind in ("500", "503"):
                self._error(int(kind))
                return
            if fault is not None and kind == "slow":
                time.sleep(fault.seconds)
            try:
                status, headers, answer = self._forward(body)
            except OSError:
                self._reset()
                return
            if kind == "lost-answer":
                self._reset()
                return
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            length = {name.lower(): value for name, value in headers}.get("content-length", str(len(answer)))
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            self.upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    self.upstream.putheader(name, value)
            self.upstream.endheaders(body)
            response = self.upstream.getresponse()
            answer = response.read()
            if response.will_close:
                self.upstream.close()
            return response.status, response.getheaders(), answer

        def _error(self, status: int) -> None:
            code = "InternalError" if status == 500 else "SlowDown"
            answer = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>planned</Message></Error>'.encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(0 if self.command == "HEAD" else len(answer)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer)

        def _reset(self) -> None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass  # noqa: N815

    return Handler


@contextlib.contextmanager
def faulty(port: int) -> Iterator[FaultyS3]:
    """The proxy in front of the server at `port` of this machine."""
    with FaultyS3(port) as proxy:
        yield proxy
