"""A blocking SP REQ client for the store workers of this host, over ipc.

A plain socket rather than a pynng REQ socket: one process asks one question at a time, so there is nothing to
multiplex, and a question is two system calls instead of four hand-overs between threads. It also never sends a
question again by itself, which a REQ socket does when its connection breaks: a write must not be repeated so.
"""

import itertools
import socket
import struct
import time
from collections.abc import Sequence

from services import sp

IPC_FRAME = struct.Struct(">BQI")  # ipc: 01, length of the payload; then the request ID
REPLY_LIMIT_BYTES = 16 * 1024 * 1024
RETRIED = (sp.GET, sp.RANGE, sp.PING)


class StoreAway(Exception):
    """No store worker answered in time. A write that ends so may or may not have happened."""


class StoreClient:
    """Asks the first of `paths` that answers; keeps its connection. For one thread."""

    def __init__(self, paths: Sequence[str], first: int = 0) -> None:
        """`first`: which path to begin with, so that the fronts spread over the store workers."""
        self._paths = list(paths)
        self._at = first % len(self._paths)
        self._socket: socket.socket | None = None
        self._ids = itertools.cycle(range(1, 0x7FFFFFFF))

    def ask(self, operation: int, body: bytes, deadline_ms: int, *, release: bytes = b"") -> sp.Reply:
        """The reply, whatever its status. A read is tried on the other workers while there is time."""
        deadline = time.monotonic() + deadline_ms / 1000
        tries = len(self._paths) + 1 if operation in RETRIED else 1  # + 1: the kept connection may be stale
        problem = "no time left"
        while tries and (left := deadline - time.monotonic()) > 0:
            tries -= 1
            try:
                self._connect(deadline)
                payload = sp.request(
                    operation, body, budget_ms=max(1, min(65535, int(left * 1000))), release=release
                )
                reply = sp.parse_reply(self._exchange(payload, deadline))
            except (OSError, sp.Malformed) as error:
                problem = str(error) or type(error).__name__
                self._disconnect()
                continue
            if reply.leaving:
                self._disconnect()
            return reply
        raise StoreAway(problem)

    def close(self) -> None:
        self._disconnect(move=False)

    def _connect(self, deadline: float) -> None:
        """A connection to a worker that accepts one: nothing has been asked yet, so all of them may be tried."""
        if self._socket is not None:
            if not _is_stale(self._socket):
                return
            self._disconnect(move=False)
        error: OSError | None = None
        for _ in self._paths:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                connection.connect(self._paths[self._at])
                connection.sendall(sp.HELLO_REQ)
                if _receive(connection, 8) != sp.HELLO_REP:
                    raise ConnectionError("not an SP REP socket")
            except OSError as failed:
                connection.close()
                error = failed
                self._at = (self._at + 1) % len(self._paths)
                continue
            self._socket = connection
            return
        raise error or ConnectionError("no store worker is configured")

    def _exchange(self, payload: bytes, deadline: float) -> bytes:
        connection = self._socket
        request_id = 0x80000000 | next(self._ids)
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        connection.sendall(IPC_FRAME.pack(1, 4 + len(payload), request_id) + payload)
        data = connection.recv(65536)
        while len(data) < IPC_FRAME.size:
            data += _some(connection)
        kind, length, replied_id = IPC_FRAME.unpack_from(data)
        if kind != 1 or replied_id != request_id or not 4 <= length <= REPLY_LIMIT_BYTES:
            raise ConnectionError("unexpected frame")
        missing = 9 + length - len(data)
        if missing > 0:
            data += _receive(connection, missing)
        return data[IPC_FRAME.size :]

    def _disconnect(self, *, move: bool = True) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if move:
            self._at = (self._at + 1) % len(self._paths)


def _is_stale(connection: socket.socket) -> bool:
    """The worker closed it while it was idle; found out before a write is sent into it."""
    connection.settimeout(0)  # MSG_DONTWAIT is not enough: with a timeout, Python itself waits first
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _receive(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        data += _some(connection, length - len(data))
    return data


def _some(connection: socket.socket, limit: int = 65536) -> bytes:
    data = connection.recv(limit)
    if not data:
        raise ConnectionError("the store worker closed the connection")
    return data
