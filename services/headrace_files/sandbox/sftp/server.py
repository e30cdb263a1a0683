"""The sFTP server that can be told to misbehave: asyncssh's, with a fault plan and a control port.

Source: reference art 5.6. Its endpoints, as the fault plan calls them: login, open, stat, read.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import asyncssh
import orjson

from headrace.sandbox.clock import Clock, RunningClock
from headrace.sandbox.control import Command, control_handler
from headrace.sandbox.counters import Counters
from headrace.sandbox.faults import Fault, FaultPlan
from headrace.sandbox.listening import Listener
from headrace_files.sandbox.sftp.identity import Identity, public
from headrace_files.sandbox.sftp.openssh import SftpPortTaken
from headrace_files.sandbox.sftp.settings import SftpSandboxSettings
from headrace_files.sandbox.sftp.spoiling import grow, spoil

ACTIONS = frozenset({"status", "delay", "drop_before"})
USER = "loader"
Watcher = Callable[[int], None]


class SftpSandbox:
    """Serves the folder `root`, read-only, to the user "loader" with the identity's key or password.

    Parameters:
        authorized: files of more public keys that may log in.
        port, control_port: 0 takes a free one.
        on_read: called before each read with its offset.
    """

    def __init__(
        self,
        root: Path,
        identity: Identity,
        settings: SftpSandboxSettings | None = None,
        *,
        authorized: Iterable[Path] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        control_port: int = 0,
        faults: Iterable[Fault] = (),
        on_read: Watcher | None = None,
    ) -> None:
        self.root, self.identity, self.host, self.port = root, identity, host, port
        self.settings = settings or SftpSandboxSettings()
        self.password = identity.password
        self.on_read = on_read
        self.clock: Clock = RunningClock()
        self.plan = FaultPlan(faults, actions=ACTIONS)
        self.counters = Counters()
        self.control = Listener("control", control_handler(self), self.counters, host=host, port=control_port)
        self.outstanding = 0
        self.cuts_left = self.settings.cuts
        self._authorized = [str(public(identity.user_key)), *map(str, authorized)]
        self._began = self.clock.now()
        self._shown: dict[bytes, Path] = {}
        self._growing: set[asyncio.Task[None]] = set()
        self._connections: set[asyncssh.SSHServerConnection] = set()

    async def start(self) -> None:
        """Listen. Raises SftpPortTaken, ListenPortTaken."""
        self._spoiled = tempfile.TemporaryDirectory(prefix="headrace-sftp-")
        try:
            self._server = await asyncssh.create_server(
                lambda: _Login(self), self.host, self.port, server_host_keys=[self._host_key()],
                authorized_client_keys=self._authorized, sftp_factory=lambda channel: _Files(self, channel),
            )  # fmt: skip
        except OSError as error:
            raise SftpPortTaken(host=self.host, port=self.port) from error
        self.port = self._server.get_port()
        await self.control.open()

    async def stop(self) -> None:
        """End everything."""
        await self.control.close()
        self._server.close()
        self.cut_all()
        for task in self._growing:
            task.cancel()
        self._spoiled.cleanup()

    # What the control port offers.

    def counted(self) -> Mapping[str, Any]:
        """Counters, and which files are shown spoiled."""
        return {**self.counters.as_tree(), "spoiled": sorted(os.fsdecode(path) for path in self._shown)}

    def tables(self) -> Mapping[str, Callable[[], Iterable[bytes]]]:
        """The files that it serves."""
        return {"files": self._listing}

    def commands(self) -> Mapping[str, Command]:
        """Spoil files, heal them, hang up."""
        return {"spoil": self._spoil, "heal": self._heal, "hang-up": self._hang_up}

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Change settings."""
        self.settings = SftpSandboxSettings.model_validate({**self.settings.model_dump(), **changes})
        self.cuts_left = self.settings.cuts
        self._server.update(server_host_keys=[self._host_key()])

    async def reset(self) -> None:
        """As if just started, with nothing wrong."""
        self.counters.clear()
        self._began = self.clock.now()
        self.configure(SftpSandboxSettings().model_dump())
        await self._heal({})

    # What connections ask.

    def place(self, path: bytes) -> Path | None:
        """Where the copy lies that is shown instead of the file of that absolute path, if there is one."""
        return self._shown.get(path)

    def fault(self, endpoint: str) -> Fault | None:
        """What the plan has for this request."""
        found = self.plan.take(endpoint, None, self.clock.now() - self._began)
        if found is not None:
            self.counters.count("faults", found.action, endpoint)
        return found

    def connected(self, connection: asyncssh.SSHServerConnection, *, there: bool) -> None:
        """A connection has come or gone."""
        (self._connections.add if there else self._connections.discard)(connection)

    def cut_all(self) -> None:
        """Break every open connection."""
        for connection in tuple(self._connections):
            connection.abort()

    def _host_key(self) -> str:
        return str(self.identity.host_keys[self.settings.host_key - 1])

    def _listing(self) -> Iterable[bytes]:
        for place in sorted(self.root.rglob("*")):
            if place.is_file():
                found = place.stat()
                row = {"path": str(place.relative_to(self.root)), "size": found.st_size, "mtime": int(found.st_mtime)}
                yield orjson.dumps(row) + b"\n"

    async def _spoil(self, given: Mapping[str, Any]) -> None:
        path = PurePosixPath("/", given["path"])
        good = self.root / path.relative_to("/")
        if ".." in path.parts or not good.is_file():
            raise ValueError(f"there is no file {given['path']}")
        bad = Path(self._spoiled.name) / os.urandom(8).hex()
        await asyncio.to_thread(spoil, good, bad, given["how"])
        self._shown[os.fsencode(path)] = bad
        if given["how"] == "growing":
            task = asyncio.create_task(grow(good, bad, float(given.get("seconds", 10))))
            self._growing.add(task)
            task.add_done_callback(self._growing.discard)

    async def _heal(self, given: Mapping[str, Any]) -> None:
        if "path" in given:
            self._shown.pop(os.fsencode(PurePosixPath("/", given["path"])), None)
        else:
            self._shown.clear()

    async def _hang_up(self, _given: Mapping[str, Any]) -> None:
        self.cut_all()


class _Login(asyncssh.SSHServer):
    """One connection's log-in."""

    def __init__(self, sandbox: SftpSandbox) -> None:
        self._sandbox = sandbox

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._sandbox.connected(conn, there=True)
        self._sandbox.counters.count("connections", "sftp")

    def connection_lost(self, _exc: Exception | None) -> None:
        self._sandbox.connected(self._connection, there=False)

    def begin_auth(self, _username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    async def validate_password(self, username: str, password: str) -> bool:
        fault = self._sandbox.fault("login")
        if fault is not None and fault.action == "delay":
            await self._sandbox.clock.sleep(fault.seconds)
        elif fault is not None and fault.action == "drop_before":
            self._connection.abort()
        right = (username, password) == (USER, self._sandbox.password)
        right = right and (fault is None or fault.action == "delay")
        self._sandbox.counters.count("logins", "password", "accepted" if right else "refused")
        return right


def _refuse(*_: object) -> None:
    raise asyncssh.SFTPPermissionDenied("this server is read-only")


class _Files(asyncssh.SFTPServer):
    """One session's requests."""

    write = setstat = lsetstat = fsetstat = remove = mkdir = rmdir = _refuse  # type: ignore[assignment]
    rename = posix_rename = symlink = link = _refuse  # type: ignore[assignment]

    def __init__(self, sandbox: SftpSandbox, channel: Any) -> None:
        super().__init__(channel, chroot=os.fsencode(sandbox.root))
        self._sandbox = sandbox
        self._connection = channel.get_connection()
        self._next: dict[int, int] = {}

    def map_path(self, path: bytes) -> bytes:
        absolute = os.path.normpath(os.path.join(b"/", path))  # noqa: PTH118 - names are bytes here
        shown = self._sandbox.place(absolute)
        return super().map_path(path) if shown is None else os.fsencode(shown)

    async def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        if pflags & ~asyncssh.FXF_READ:
            raise asyncssh.SFTPPermissionDenied("this server is read-only")
        await self._suffer("open")
        return super().open(path, pflags, attrs)

    def close(self, file_obj: object) -> None:
        self._next.pop(id(file_obj), None)
        super().close(file_obj)

    async def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        await self._suffer("stat")
        return self._told(super().stat(path))

    def fstat(self, file_obj: object) -> asyncssh.SFTPAttrs:
        return self._told(super().fstat(file_obj))

    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        sandbox, settings = self._sandbox, self._sandbox.settings
        sandbox.counters.count("requests", "read")
        expected = self._next.get(id(file_obj), 0)
        self._next[id(file_obj)] = offset + size
        sandbox.outstanding += 1
        sandbox.counters.highest("most outstanding reads", value=sandbox.outstanding)
        try:
            if settings.most_outstanding is not None and sandbox.outstanding > settings.most_outstanding:
                raise asyncssh.SFTPFailure("too many reads at once")
            if settings.sequential and offset != expected:
                raise asyncssh.SFTPOpUnsupported("this file can only be read from its beginning to its end")
            await self._suffer("read")
            # Also so that reads which are under way together are seen together.
            await sandbox.clock.sleep(settings.pause_ms / 1000)
            if sandbox.on_read is not None:
                sandbox.on_read(offset)
            if settings.cut_at is not None and offset <= settings.cut_at < offset + size and sandbox.cuts_left > 0:
                sandbox.cuts_left -= 1
                self._hang_up()
            data: bytes = super().read(file_obj, offset, size)  # type: ignore[assignment]
            data = data[: settings.most_at_once]
            sandbox.counters.count("bytes", by=len(data))
            return data
        finally:
            sandbox.outstanding -= 1

    def _told(self, found: Any) -> asyncssh.SFTPAttrs:
        attributes = asyncssh.SFTPAttrs.from_local(found)
        attributes.size = (attributes.size or 0) + self._sandbox.settings.larger_by
        return attributes

    async def _suffer(self, endpoint: str) -> None:
        fault = self._sandbox.fault(endpoint)
        if fault is None:
            return
        if fault.action == "delay":
            await self._sandbox.clock.sleep(fault.seconds)
        elif fault.action == "drop_before":
            self._hang_up()
        else:
            raise asyncssh.SFTPFailure("told to fail")

    def _hang_up(self) -> None:
        self._connection.abort()
        raise asyncssh.SFTPConnectionLost("cut")
