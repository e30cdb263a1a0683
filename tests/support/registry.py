"""A schema registry over HTTP, as small as it can be: it keeps schemas, ids and compatibility levels in memory.

It checks no compatibility; a test says which subjects it refuses. Source: Confluent's API reference.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit


@dataclass
class Registered:
    """What the registry holds, and how it behaves; tests change it while it runs."""

    schemas: list[str] = field(default_factory=list)
    subjects: dict[str, list[int]] = field(default_factory=dict)
    levels: dict[str, str] = field(default_factory=dict)
    refuses: set[str] = field(default_factory=set)
    login: str | None = None
    away: bool = False
    requests: list[str] = field(default_factory=list)

    def id_of(self, schema: str) -> int | None:
        wanted = json.loads(schema)
        return next((number for number, each in enumerate(self.schemas, 1) if json.loads(each) == wanted), None)

    def put(self, subject: str, schema: str) -> int:
        number = self.id_of(schema)
        if number is None:
            self.schemas.append(schema)
            number = len(self.schemas)
        versions = self.subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number


class RegistryServer:
    """The registry on a port of its own; it keeps what it holds when it is stopped and started again."""

    def __init__(self) -> None:
        self.holds = Registered()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        handler = type("Handler", (_Handler,), {"holds": self.holds})
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@contextmanager
def registry() -> Iterator[RegistryServer]:
    server = RegistryServer()
    try:
        yield server
    finally:
        server.stop()


class _Handler(BaseHTTPRequestHandler):
    holds: ClassVar[Registered]

    def do_GET(self) -> None:
        match self._path():
            case ["schemas", "ids", number] if 0 < int(number) <= len(self.holds.schemas):
                self._answer({"schema": self.holds.schemas[int(number) - 1]})
            case ["schemas", "ids", _]:
                self._refuse(404, 40403, "Schema not found")
            case ["subjects"]:
                self._answer(sorted(self.holds.subjects))
            case ["config", subject] if subject in self.holds.levels:
                self._answer({"compatibilityLevel": self.holds.levels[subject]})
            case ["config", subject]:
                self._refuse(404, 40408, f"Subject '{subject}' does not have subject-level compatibility configured")
            case [_, *_]:
                self._refuse(404, 40401, "Subject not found")

    def do_PUT(self) -> None:
        path, body = self._path(), self._body()
        match path:
            case ["config", subject]:
                self.holds.levels[subject] = body["compatibility"]
                self._answer(body)

    def do_POST(self) -> None:
        path, body = self._path(), self._body()
        match path:
            case ["subjects", subject]:
                number = self.holds.id_of(body["schema"])
                if number is None or number not in self.holds.subjects.get(subject, ()):
                    self._refuse(404, 40403, "Schema not found")
                else:
                    version = self.holds.subjects[subject].index(number) + 1
                    self._answer({"subject": subject, "id": number, "version": version, "schema": body["schema"]})
            case ["subjects", subject, "versions"] if subject in self.holds.refuses:
                self._refuse(409, 409, "Schema being registered is incompatible with an earlier schema")
            case ["subjects", subject, "versions"]:
                self._answer({"id": self.holds.put(subject, body["schema"])})

    def _path(self) -> list[str]:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        self.holds.requests.append(f"{self.command} {'/'.join(parts)}")
        if self.holds.away:
            self._refuse(503, 50301, "Not ready")
            return []
        if self.holds.login is not None and self.headers.get("Authorization") != self.holds.login:
            self._refuse(401, 40101, "User cannot access the resource")
            return []
        return parts

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"null")

    def _answer(self, body: Any, status: int = 200) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _refuse(self, status: int, code: int, message: str) -> None:
        self._answer({"error_code": code, "message": message}, status)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class says so
        """Nothing."""
