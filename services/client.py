"""A blocking SP REQ client for the store workers of this host, over ipc.

A plain socket rather than a pynng REQ socket: one process asks one question at a time, so there is nothing to
multiplex, and a question is two system calls instead of four hand-overs between threads. (Time limits are the
kernel's, SO_RCVTIMEO: with Python's own, each call would be preceded by a poll.) It also never sends a question
again by itself, which a REQ socket does when its connection breaks: a write must not be repeated so.
"""

import itertools
import math
import socket
import struct
import time
from collections.abc import Sequence

from services import sp

IPC_FRAME = struct.Struct(">BQI")  # ipc: 01, length of the payload; then the request ID
REPLY_LIMIT_BYTES = 16 * 1024 * 1024
READ_BYTES = 8192  # holds most replies
TIMEVAL = struct.Struct("@ll")
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
        self._limit_ms = 0  # the time limit that the socket has
        self._ids = itertools.cycle(range(1, 0x7FFFFFFF))

    def ask(self, operation: int, body: bytes, deadline_ms: int) -> sp.Reply:
        """The reply, whatever its status. A read is tried on the other workers while there is time."""
        deadline = time.monotonic() + deadline_ms / 1000
        tries = len(self._paths) + 1 if operation in RETRIED else 1  # + 1: the kept connection may be stale
        problem = "no time left"
        while tries and (left_ms := _left_ms(deadline)) > 0:
            tries -= 1
            try:
                self._connect(deadline, operation not in RETRIED)
                payload = sp.request(operation, body, budget_ms=min(65535, left_ms))
                reply = sp.parse_reply(self._exchange(payload, deadline))
            except (OSError, sp.Malformed) as error:
                late = isinstance(error, BlockingIOError)
                problem = "no answer in time" if late else str(error) or type(error).__name__
                self._disconnect()
                continue
            if reply.leaving:
                self._disconnect()
            return reply
        raise StoreAway(problem)

    def close(self) -> None:
        self._disconnect(move=False)

    def _connect(self, deadline: float, once: bool) -> None:
        """A connection to a worker that accepts one: nothing has been asked yet, so all of them may be tried.

        `once`: the question must not be sent into a connection that the worker closed while it was idle.
        """
        if self._socket is not None:
            if not once or not _is_stale(self._socket):
                return
            self._disconnect(move=False)
        error: OSError | None = None
        for _ in self._paths:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            self._limit_ms = 0
            try:
                self._limit(deadline)
                self._socket.connect(self._paths[self._at])
                self._socket.sendall(sp.HELLO_REQ)
                if self._receive(8, deadline) != sp.HELLO_REP:
                    raise ConnectionError("not an SP REP socket")
            except OSError as failed:
                self._disconnect()
                error = failed
                continue
            return
        raise error or ConnectionError("no store worker is configured")

    def _exchange(self, payload: bytes, deadline: float) -> bytes:
        request_id = 0x80000000 | next(self._ids)
        self._limit(deadline)
        self._socket.sendall(IPC_FRAME.pack(1, 4 + len(payload), request_id) + payload)
        data = self._some(READ_BYTES)
        if len(data) < IPC_FRAME.size:
            data += self._receive(IPC_FRAME.size - len(data), deadline)
        kind, length, replied_id = IPC_FRAME.unpack_from(data)
        if kind != 1 or replied_id != request_id or not 4 <= length <= REPLY_LIMIT_BYTES:
            raise ConnectionError("unexpected frame")
        missing = 9 + length - len(data)
        if missing > 0:
            data += self._receive(missing, deadline)
        return data[IPC_FRAME.size :]

    def _limit(self, deadline: float) -> None:
        """No call of the socket takes longer than to the deadline. Mostly the last question's limit stands."""
        left_ms = max(1, _left_ms(deadline))
        if left_ms != self._limit_ms:
            value = TIMEVAL.pack(left_ms // 1000, left_ms % 1000 * 1000)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
            self._limit_ms = left_ms

    def _receive(self, length: int, deadline: float) -> bytes:
        data = b""
        while len(data) < length:
            self._limit(deadline)
            data += self._some(length - len(data))
        return data

    def _some(self, most: int) -> bytes:
        data = self._socket.recv(most)
        if not data:
            raise ConnectionError("the store worker closed the connection")
        return data

    def _disconnect(self, *, move: bool = True) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if move:
            self._at = (self._at + 1) % len(self._paths)


def _left_ms(deadline: float) -> int:
    return math.ceil((deadline - time.monotonic()) * 1000)


def _is_stale(connection: socket.socket) -> bool:
    """The worker closed it, or said something unasked; found out before a write is sent into it."""
    try:
        connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
