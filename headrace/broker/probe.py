"""Asks a Kafka broker a real question without a client library, which takes longer to start than the answer."""

from __future__ import annotations

import socket
import struct

_METADATA = 3
_VERSION = 1
_CLIENT = b"headrace-probe"


def answers(port: int, *, within: float = 1.0) -> bool:
    """Tell whether the broker on this port of 127.0.0.1 serves requests and names itself as a member of its cluster.

    An open port is not enough: the broker listens before it has recovered its log and joined.

    Parameters:
        port: TCP port of a plaintext listener.
        within: seconds to wait for connection and answer.

    Source: Kafka protocol guide, Metadata request and response version 1 (still served by 4.x, KIP-896).
    """
    header = struct.pack(">hhih", _METADATA, _VERSION, 1, len(_CLIENT)) + _CLIENT
    request = header + struct.pack(">i", 0)  # no topics
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=within) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", _read(connection, 4))
            if not 8 <= size <= 1_048_576:  # another kind of server
                return False
            correlation, brokers = struct.unpack(">ii", _read(connection, size)[:8])
    except (OSError, EOFError):
        return False
    return bool(correlation == 1 and brokers >= 1)


def _read(connection: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        piece = connection.recv(size - len(received))
        if not piece:
            raise EOFError
        received += piece
    return bytes(received)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as candidate:
        candidate.bind(("127.0.0.1", 0))
        port: int = candidate.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as candidate:
        # As Java does: a port whose last connections are still timing out can be listened on.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
