"""As much of the SFTP protocol, version 3, as reading needs, over a channel of paramiko's.

paramiko's own client reads ahead in a thread that polls with sleeps: 6 to 11 MB/s over loopback, where this one, with
its own window of requests and packets as large as OpenSSH sends them, came to 126 to 296 MB/s (OpenSSH: 240).
Source: draft-ietf-secsh-filexfer-02; OpenSSH's limit of 256 KiB a message.
"""

from __future__ import annotations

import socket
import stat as modes
import struct
from dataclasses import dataclass

import paramiko

from headrace_files.sftp_source.errors import ConnectionLost, RemoteMissing, RemoteRefused

INIT, VERSION, OPEN, CLOSE, READ, FSTAT, STAT = 1, 2, 3, 4, 5, 8, 17
STATUS, HANDLE, DATA, ATTRS = 101, 102, 103, 105
OK, EOF, NO_SUCH_FILE = 0, 1, 2
PROTOCOL = 3
READ_ONLY = 1
LARGEST_MESSAGE = 256 * 1024
RECEIVE = 1024 * 1024

HAS_SIZE, HAS_OWNER, HAS_MODE, HAS_TIMES = 1, 2, 4, 8

_REASONS = {3: "permission denied", 4: "the server failed", 5: "a bad message", 8: "it cannot do that"}


@dataclass(frozen=True, slots=True)
class Attributes:
    """What the server says of a file: `size` in bytes, `mtime` in seconds since the epoch."""

    size: int
    mtime: int
    regular: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What came for a read request: its bytes, none at the end of the file."""

    request: int
    data: memoryview


class Reader:
    """Asks a server for files. One thread's.

    Parameters:
        host: for messages.

    Raises ConnectionLost, as all its methods do when the server goes away or says what it must not.
    """

    def __init__(self, channel: paramiko.Channel, host: str) -> None:
        self._channel = channel
        self._host = host
        self._buffer = bytearray()
        self._next = 0
        self._send(INIT, struct.pack(">I", PROTOCOL))
        kind, body = self._receive()
        if kind != VERSION or len(body) < 4 or struct.unpack_from(">I", body)[0] < PROTOCOL:
            raise self._lost("it speaks no SFTP version 3")

    def stat(self, path: str) -> Attributes:
        """The file's attributes, links followed.

        Raises RemoteMissing, RemoteRefused.
        """
        return self._attributes(*self._ask(STAT, _text(path)), path)

    def open(self, path: str) -> bytes:
        """A handle for reading.

        Raises RemoteMissing, RemoteRefused.
        """
        kind, body = self._ask(OPEN, _text(path) + struct.pack(">II", READ_ONLY, 0))
        if kind == STATUS:
            raise self._refusal(body, path)
        if kind != HANDLE:
            raise self._lost("an answer that makes no sense")
        return bytes(self._string(body, 0))

    def fstat(self, handle: bytes, path: str) -> Attributes:
        """The attributes of the open file."""
        return self._attributes(*self._ask(FSTAT, _bytes(handle)), path)

    def close(self, handle: bytes) -> None:
        """Give a handle back."""
        self._ask(CLOSE, _bytes(handle))

    def request(self, handle: bytes, offset: int, length: int) -> int:
        """Ask for bytes; which number the answer will have."""
        number = self._number()
        self._send(READ, struct.pack(">I", number) + _bytes(handle) + struct.pack(">QI", offset, length))
        return number

    def answer(self, path: str) -> Answer:
        """The next answer to a read request; the server may give fewer bytes than were asked for.

        Raises RemoteRefused.
        """
        kind, body = self._receive()
        if len(body) < 4:
            raise self._lost("an answer that is cut off")
        number = struct.unpack_from(">I", body)[0]
        if kind == DATA:
            return Answer(number, self._string(body, 4))
        if kind == STATUS:
            if len(body) >= 8 and struct.unpack_from(">I", body, 4)[0] == EOF:
                return Answer(number, memoryview(b""))
            raise self._refusal(body[4:], path)
        raise self._lost("an answer that makes no sense")

    def read(self, handle: bytes, offset: int, length: int, path: str) -> bytes:
        """Exactly these bytes, fewer only at the end of the file. No other request may be under way."""
        out = bytearray()
        while len(out) < length:
            self.request(handle, offset + len(out), min(length - len(out), 32 * 1024))
            data = self.answer(path).data
            if not data:
                break
            out += data
        return bytes(out)

    def _ask(self, kind: int, body: bytes) -> tuple[int, memoryview]:
        number = self._number()
        self._send(kind, struct.pack(">I", number) + body)
        answered, found = self._receive()
        if len(found) < 4 or struct.unpack_from(">I", found)[0] != number:
            raise self._lost("an answer to another question")
        return answered, found[4:]

    def _number(self) -> int:
        self._next = (self._next + 1) & 0xFFFFFFFF
        return self._next

    def _attributes(self, kind: int, body: memoryview, path: str) -> Attributes:
        if kind == STATUS:
            raise self._refusal(body, path)
        if kind != ATTRS:
            raise self._lost("an answer that makes no sense")
        try:
            flags = struct.unpack_from(">I", body)[0]
            place, size, mode, mtime = 4, 0, modes.S_IFREG, 0
            if flags & HAS_SIZE:
                size = struct.unpack_from(">Q", body, place)[0]
                place += 8
            if flags & HAS_OWNER:
                place += 8
            if flags & HAS_MODE:
                mode = struct.unpack_from(">I", body, place)[0]
                place += 4
            if flags & HAS_TIMES:
                mtime = struct.unpack_from(">II", body, place)[1]
        except struct.error as error:
            raise self._lost("an answer that is cut off") from error
        if not flags & HAS_SIZE:
            raise RemoteRefused(path=path, problem="it does not say how large it is")
        return Attributes(size, mtime, modes.S_ISREG(mode) or not modes.S_IFMT(mode))

    def _refusal(self, body: memoryview, path: str) -> RemoteMissing | RemoteRefused | ConnectionLost:
        if len(body) < 4:
            return self._lost("an answer that is cut off")
        code = struct.unpack_from(">I", body)[0]
        if code == NO_SUCH_FILE:
            return RemoteMissing(path=path)
        if code in (6, 7):
            return self._lost("the server says that the connection is gone")
        return RemoteRefused(path=path, problem=_REASONS.get(code, f"it says {code}"))

    def _string(self, body: memoryview, place: int) -> memoryview:
        if len(body) < place + 4:
            raise self._lost("an answer that is cut off")
        length = struct.unpack_from(">I", body, place)[0]
        found = body[place + 4 : place + 4 + length]
        if len(found) != length:
            raise self._lost("an answer that is cut off")
        return found

    def _send(self, kind: int, body: bytes) -> None:
        try:
            self._channel.sendall(struct.pack(">IB", len(body) + 1, kind) + body)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise self._lost(_problem(error)) from error

    def _receive(self) -> tuple[int, memoryview]:
        """The kind and the rest of the next message."""
        length = struct.unpack(">I", self._take(4))[0]
        # Twice, since a server may count the head of the message on top.
        if not 1 <= length <= 2 * LARGEST_MESSAGE:
            raise self._lost("a message of no possible length")
        message = memoryview(self._take(length))
        return message[0], message[1:]

    def _take(self, count: int) -> bytes:
        buffer = self._buffer
        while len(buffer) < count:
            try:
                piece = self._channel.recv(RECEIVE)
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise self._lost(_problem(error)) from error
            if not piece:
                raise self._lost("the server hung up")
            buffer += piece
        found = bytes(memoryview(buffer)[:count])
        del buffer[:count]
        return found

    def _lost(self, problem: str) -> ConnectionLost:
        return ConnectionLost(host=self._host, problem=problem)


def _bytes(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw


def _text(text: str) -> bytes:
    return _bytes(text.encode("utf-8", "surrogateescape"))


def _problem(error: Exception) -> str:
    if isinstance(error, socket.timeout):
        return "it says nothing"
    return str(error) or type(error).__name__
