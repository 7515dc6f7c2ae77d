"""A REP socket for many requests at a time: takes what waits on all connections, and answers each request where it
came from. SP over TCP and ipc, see services/sp.py; any REQ socket of nanomsg or nng can ask.

It does what nng's REP socket does in raw mode, on a plain event loop: one system call reads all requests that wait
on a connection, one sends all their replies. nng reads each message in two steps, hands each step to a thread and
sends each reply by itself: that was the larger part of a store worker (docs/performance.md).

What breaks the protocol closes its connection and nothing else. Bounded are: a message, the unsent replies of a
connection, what is read ahead (one buffer beyond the batch that was asked for). From a connection that does not
take its replies no more requests are read.
"""

import contextlib
import errno
import os
import select
import socket
import struct
import threading
import time
from collections import deque
from pathlib import Path

from services import sp

READ_BYTES = 16384
UNSENT_LIMIT_BYTES = 32 * 1024 * 1024
HOPS = 8  # words before the request ID, one for each device on the way: nng's own limit
HELLO_SECONDS = 10
REST_SECONDS = 1  # without accepting, when there are no file descriptors left
BACKLOG = 1024
TCP_HEADER, IPC_HEADER = struct.Struct(">Q"), struct.Struct(">BQ")
IPC_MESSAGE = 1

# where it came from; the request ID, with what devices put before it; the payload
Message = tuple["Connection", bytes, bytes]


class SocketError(OSError):
    """Which address cannot be listened on, and why."""


class Connection:
    """One peer. `data`: the beginning of a message; `unsent`: what it has to take before it is read from again."""

    __slots__ = ("data", "fd", "greeted", "ipc", "missing", "replies", "sock", "unsent")

    def __init__(self, sock: socket.socket, *, ipc: bool) -> None:
        self.sock, self.fd, self.ipc = sock, sock.fileno(), ipc
        self.greeted = False
        self.data = b""
        self.missing = 0  # bytes without which there is no whole message
        self.replies: list[bytes] = []
        self.unsent = b""


class Rep:
    """Listens on nng's URLs. All is for one thread, except `reply`, which may be called from any."""

    def __init__(self, *, message_limit_bytes: int, take_timeout_ms: int) -> None:
        """Larger messages close their connection."""
        self._limit = message_limit_bytes
        self._timeout = take_timeout_ms / 1000
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._listeners: dict[int, socket.socket] = {}
        self._paths: list[str] = []
        self._greetings: dict[int, float] = {}  # until when a new connection has to say that it is a REQ
        self._ready: deque[int] = deque()  # file descriptors to read from
        self._held: deque[Message] = deque()  # read, but not asked for yet
        self._answered: list[Connection] = []  # have replies to send
        self._late: deque[tuple[Connection, bytes]] = deque()  # replies of other threads
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._resting_until = 0.0
        self._thread = threading.get_ident()
        self._polled_at = time.monotonic()
        self._lag = 0.0  # seconds that what the last poll has found had lain there at most

    def listen(self, url: str) -> None:
        """tcp://address:port or ipc://path. Raises SocketError."""
        try:
            listener = self._listen_ipc(url[6:]) if url.startswith("ipc://") else _listen_tcp(url[6:])
        except OSError as error:
            raise SocketError(f"cannot listen on {url}: {error.strerror}") from None
        listener.setblocking(False)
        self._listeners[listener.fileno()] = listener
        self._epoll.register(listener.fileno(), select.EPOLLIN)

    def take(self, limit: int) -> tuple[list[Message], float]:
        """(messages, the most ms that one of them may have waited here): up to `limit`, and at least one if it
        comes in time. Sends what was replied before.
        """
        self.flush()
        ready, connections, messages, waited = self._ready, self._connections, [], 0.0
        if ready or self._held:
            waited = self._lag + time.monotonic() - self._polled_at
            messages = [self._held.popleft() for _ in range(min(limit, len(self._held)))]
        if not ready:
            self._poll(0 if messages else self._timeout)
            waited = max(waited, self._lag)
        while ready and len(messages) < limit:
            connection = connections.get(ready.popleft())
            if connection is not None:
                self._read(connection, messages)
        if len(messages) > limit:
            self._held.extend(messages[limit:])
            del messages[limit:]
        return messages, waited * 1000

    def reply(self, message: Message, body: bytes) -> None:
        """Answer a message, at the latest when `take` is called again."""
        connection, head, _ = message
        length = len(head) + len(body)
        header = IPC_HEADER.pack(IPC_MESSAGE, length) if connection.ipc else length.to_bytes(8, "big")
        if threading.get_ident() == self._thread:
            if not connection.replies:
                self._answered.append(connection)
            connection.replies.append(header + head + body)
        else:
            self._late.append((connection, header + head + body))
            os.eventfd_write(self._wake, 1)

    def flush(self) -> None:
        """Send what was replied."""
        for connection in self._answered:
            self._send(connection)
        self._answered.clear()

    @staticmethod
    def body_of(message: Message) -> bytes:
        return message[2]

    def close(self) -> None:
        self._send_late()
        self.flush()
        for connection in list(self._connections.values()):
            self._drop(connection)
        for listener in self._listeners.values():
            listener.close()
        for path in self._paths:
            with contextlib.suppress(OSError):
                Path(path).unlink()
        self._epoll.close()
        os.close(self._wake)

    def _poll(self, timeout: float) -> None:
        """Wait for something to happen, and do all of it but read."""
        ready, connections = self._ready, self._connections
        # what lies there already came after the last poll, whose findings have all been read
        self._lag = time.monotonic() - self._polled_at
        found = self._epoll.poll(timeout)
        self._polled_at = time.monotonic()
        for fd, events in found:
            if fd in connections:
                if events & select.EPOLLOUT:
                    self._send(connections[fd])
                if events & ~select.EPOLLOUT:
                    ready.append(fd)
            elif fd == self._wake:
                self._send_late()
            elif fd in self._listeners:
                self._accept(self._listeners[fd])
        if self._greetings or self._resting_until:
            self._look_at_the_clock()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._resting_until = time.monotonic() + REST_SECONDS
                    for fd in self._listeners:
                        self._epoll.modify(fd, 0)
                    return
                continue  # this one has left already
            sock.setblocking(False)
            ipc = sock.family == socket.AF_UNIX
            if not ipc:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock, ipc=ipc)
            self._connections[connection.fd] = connection
            self._greetings[connection.fd] = time.monotonic() + HELLO_SECONDS
            self._epoll.register(connection.fd, select.EPOLLIN)
            connection.replies.append(sp.HELLO_REP)
            self._send(connection)

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        while self._greetings and (first := next(iter(self._greetings.items())))[1] <= now:
            self._drop(self._connections[first[0]])
        if self._resting_until and self._resting_until <= now:
            self._resting_until = 0.0
            for fd in self._listeners:
                self._epoll.modify(fd, select.EPOLLIN)

    def _read(self, connection: Connection, messages: list[Message]) -> None:
        """Append what has come to `messages`."""
        try:
            data = connection.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        if connection.missing > len(data):
            connection.missing -= len(data)
            connection.data += data
            return
        if connection.data:
            data = connection.data + data
        at = 0
        if not connection.greeted:
            if len(data) < len(sp.HELLO_REQ):
                connection.data = data
                return
            if not data.startswith(sp.HELLO_REQ):
                self._drop(connection)
                return
            connection.greeted, at = True, len(sp.HELLO_REQ)
            del self._greetings[connection.fd]
        end, ipc = len(data), connection.ipc
        header_bytes = IPC_HEADER.size if ipc else TCP_HEADER.size
        whole = end
        connection.missing = 0
        while at < end:
            start = at + header_bytes
            if start > end:
                break
            if ipc:
                kind, length = IPC_HEADER.unpack_from(data, at)
            else:
                kind, (length,) = IPC_MESSAGE, TCP_HEADER.unpack_from(data, at)
            if kind != IPC_MESSAGE or not 4 <= length <= self._limit:
                self._drop(connection)
                return
            whole = start + length
            if whole > end:
                connection.missing = whole - end
                break
            body = start + 4
            if data[start] < 0x80:
                body = _behind_the_hops(data, start, whole)
            if not body:
                self._drop(connection)
                return
            messages.append((connection, data[start:body], data[body:whole]))
            at = whole
        connection.data = data[at:] if at < end else b""

    def _send_late(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        late = self._late
        while late:
            connection, frame = late.popleft()
            if not connection.replies:
                self._answered.append(connection)
            connection.replies.append(frame)
        self.flush()

    def _send(self, connection: Connection) -> None:
        """Send what the connection takes; while something is left, nothing is read from it."""
        waiting = bool(connection.unsent)
        if waiting:
            connection.replies.insert(0, connection.unsent)
        data = connection.replies[0] if len(connection.replies) == 1 else b"".join(connection.replies)
        connection.replies.clear()
        if connection.fd < 0:
            return
        try:
            sent = connection.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(connection)
            return
        connection.unsent = data[sent:] if sent < len(data) else b""
        if len(connection.unsent) > UNSENT_LIMIT_BYTES:
            self._drop(connection)
        elif waiting != bool(connection.unsent):
            self._epoll.modify(connection.fd, select.EPOLLIN if waiting else select.EPOLLOUT)

    def _drop(self, connection: Connection) -> None:
        if connection.fd >= 0:
            del self._connections[connection.fd]
            self._greetings.pop(connection.fd, None)
            connection.fd = -1
            connection.sock.close()
        connection.data = connection.unsent = b""

    def _listen_ipc(self, path: str) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or _is_listened_on(path):
                listener.close()
                raise
            Path(path).unlink()  # left behind by a process that was killed
            listener.bind(path)
        listener.listen(BACKLOG)
        self._paths.append(path)
        return listener


def _listen_tcp(where: str) -> socket.socket:
    address, _, port = where.rpartition(":")
    return socket.create_server((address, int(port)), backlog=BACKLOG)


def _is_listened_on(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def _behind_the_hops(data: bytes, start: int, end: int) -> int:
    """Where the payload begins in a message that devices have passed on; 0 where there is no request ID."""
    for at in range(start, min(end - 3, start + 4 * HOPS), 4):
        if data[at] >= 0x80:
            return at + 4
    return 0
