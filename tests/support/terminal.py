"""A command on a terminal of its own, as a person would use it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROWS, COLUMNS = 24, 100


class Terminal:
    """Starts a command in a new session on a pseudo-terminal."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str]) -> None:
        self._handle, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.seen = ""
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=child, stdout=child, stderr=child, start_new_session=True,
            env={**os.environ, **environment, "TERM": "xterm"}, preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(child)

    def type(self, line: str) -> None:
        """Type a line and press enter."""
        os.write(self._handle, f"{line}\n".encode())

    def press_ctrl_c(self) -> None:
        """What the key sends: the terminal makes it a SIGINT for every process of the foreground group."""
        os.write(self._handle, b"\x03")

    def expect(self, pattern: str, within: float = 30.0) -> None:
        """Wait until the pattern is on the screen after what was found before, and move behind it."""
        deadline = time.monotonic() + within
        while (found := re.search(pattern, self.seen, re.DOTALL)) is None:
            assert time.monotonic() < deadline, f"{pattern!r} did not appear; seen: {self.seen[-2000:]!r}"
            if not self._read() and self.process.poll() is not None:
                raise AssertionError(f"it ended without {pattern!r}; seen: {self.seen[-2000:]!r}")
        self.seen = self.seen[found.end() :]

    def ended(self, within: float = 30.0) -> int:
        """Wait for its end, reading on; its exit code."""
        deadline = time.monotonic() + within
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read()
        code = self.process.wait(0.1)
        os.close(self._handle)
        return code

    def _read(self) -> bool:
        if not select.select([self._handle], [], [], 0.1)[0]:
            return False
        try:
            data = os.read(self._handle, 65536)
        except OSError:
            # The other side has closed the terminal.
            return False
        self.seen += data.decode("utf-8", "replace")
        return bool(data)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
