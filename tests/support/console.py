"""A console in a process of its own, a browser to look at it with, and requests that no browser would send."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from headrace.kafka.clients import Cluster
from tests.support.processes import HEADRACE
from tests.support.waiting import wait_until

CHROMIUM = shutil.which("chromium")
WHY_NO_BROWSER = "there is no chromium here: apt-get install chromium"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


class ConsoleProcess:
    """`headrace console` on a free port, as a user starts it."""

    def __init__(self, cluster: Cluster, folder: Path, **environment: str) -> None:
        own = {
            "HEADRACE_KAFKA__BOOTSTRAP": cluster.bootstrap,
            "HEADRACE_KAFKA__PREFIX": cluster.settings.prefix,
            "HEADRACE_CONSOLE__REFRESH": "200ms",
        }
        self.log = folder / "console.log"
        self._out = self.log.open("wb")
        self.process = subprocess.Popen(
            [str(HEADRACE), "console", "--port", "0"], cwd=folder, env={**os.environ, **own, **environment},
            stdout=subprocess.PIPE, stderr=self._out, text=True,
        )  # fmt: skip
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_until(lambda: self._lines or self.process.poll() is not None, within=30)
        assert self._lines, self.log.read_text()
        address, _, self.token = self._lines[0].removeprefix("Open ").strip().partition("#")
        self.base = address.removesuffix("/login")

    def _read(self) -> None:
        assert self.process.stdout is not None
        self._lines += iter(self.process.stdout.readline, "")

    @property
    def login(self) -> str:
        """The address that was printed."""
        return f"{self.base}/login#{self.token}"

    def close(self) -> int:
        """SIGTERM; its exit code."""
        self.process.terminate()
        code = self.process.wait(20)
        self._reader.join(5)
        self._out.close()
        return code


@contextmanager
def console(cluster: Cluster, folder: Path, **environment: str) -> Iterator[ConsoleProcess]:
    """A console that is stopped at the end."""
    running = ConsoleProcess(cluster, folder, **environment)
    try:
        yield running
    finally:
        running.close()


@contextmanager
def browsing(profile: Path, **options: Any) -> Iterator[Any]:
    """A page of a Chromium with a profile of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile), executable_path=CHROMIUM, headless=True, args=FLAGS, **options
        )
        try:
            yield context.pages[0] if context.pages else context.new_page()
        finally:
            context.close()


class Client:
    """Requests as they come over the wire, headers and all."""

    def __init__(self, base: str) -> None:
        self.base = base
        self._address = urlsplit(base)

    def request(
        self, method: str, path: str, form: dict[str, str] | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, str]:
        """Status, headers and body; a header's name is given with underscores, "" leaves it out."""
        given = {"Origin": self.base} if method == "POST" else {}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        body = None
        if form is not None:
            body = urlencode(form)
            given["Content-Type"] = "application/x-www-form-urlencoded"
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=20)
        try:
            connection.request(method, path, body, {name: value for name, value in given.items() if value})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        finally:
            connection.close()


def log_in(client: Client, token: str) -> tuple[str, str]:
    """The session's cookie and its proof."""
    status, headers, _ = client.request("POST", "/login", {"token": token})
    assert status == 303
    cookie = headers["Set-Cookie"].partition(";")[0]
    _, _, page = wait_until(lambda: client.request("GET", "/dead-letters", Cookie=cookie))
    found = re.search(r'name="proof" value="([^"]+)"', page)
    assert found is not None
    return cookie, found[1]
