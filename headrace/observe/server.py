"""A small HTTP server in a thread: `/metrics` for Prometheus, `/healthz` and `/readyz` for who restarts services."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

import orjson

from headrace.errors import ConfigError
from headrace.observe.health import Health, Verdict
from headrace.observe.metrics import Metrics

REQUEST_SECONDS = 5.0


class MetricsPortTaken(ConfigError):
    """Metrics cannot be served on {host}:{port}: {problem}. Choose another metrics_port, "auto", or 0 for none."""

    code = "metrics-port-taken"


class HealthServer:
    """Serves until closed. `port` is the one it listens on.

    Parameters:
        port: 0 takes a free one.

    Raises MetricsPortTaken.
    """

    def __init__(self, health: Health, metrics: Metrics, host: str = "127.0.0.1", port: int = 0) -> None:
        class Handler(BaseHTTPRequestHandler):
            server_version = "headrace"
            sys_version = ""
            timeout = REQUEST_SECONDS

            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(200, "text/plain; version=0.0.4; charset=utf-8", metrics.exposition())
                elif self.path == "/healthz":
                    self._verdict(health.alive())
                elif self.path == "/readyz":
                    self._verdict(health.accepting())
                else:
                    self._answer(404, "text/plain", b"Here are /metrics, /healthz and /readyz.\n")

            def _verdict(self, verdict: Verdict) -> None:
                status = "well" if verdict.well else "unwell"
                body = {"status": status, "reasons": verdict.reasons, "pauses": verdict.pauses}
                self._answer(200 if verdict.well else 503, "application/json", orjson.dumps(body) + b"\n")

            def _answer(self, code: int, kind: str, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Requests are not logged: probes come every few seconds."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise MetricsPortTaken(host=host, port=port, problem=error.strerror) from error
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> HealthServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
