"""A web server of the test that alarms are posted to."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Receiver:
    """Answers what it is told to, one status a request, then 200."""

    def __init__(self, statuses: list[int], gate: threading.Event | None = None) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.requests = 0
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                if gate is not None:
                    gate.wait(10)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests += 1
                status = statuses.pop(0) if statuses else 200
                if status == 200:
                    receiver.bodies.append(json.loads(body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook?key=1"


@contextmanager
def receiving(*statuses: int, gate: threading.Event | None = None) -> Iterator[Receiver]:
    receiver = Receiver(list(statuses), gate)
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.05,))
    thread.start()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
    thread.join()
