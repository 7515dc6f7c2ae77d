"""The store worker's REP socket by itself: pieces, limits, callers that do not read, threads that answer."""

from __future__ import annotations

import errno
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pynng
import pytest

from services import rep, sp
from services.rep import Rep, SocketError
from tests.unit.stores import free_port, wait_until

LIMIT = 100_000


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def server(port: int, tmp_path: Path) -> Iterator[Rep]:
    server = Rep(message_limit_bytes=LIMIT, take_timeout_ms=20)
    server.listen(f"tcp://127.0.0.1:{port}")
    server.listen(f"ipc://{tmp_path}/rep.ipc")
    yield server
    server.close()


@pytest.fixture
def caller(server: Rep, port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(sp.HELLO_REQ)
        server.take(1)
        assert connection.recv(8) == sp.HELLO_REP
        yield connection


def frame(payload: bytes, request_id: int = 1, hops: bytes = b"") -> bytes:
    return (
        struct.pack(">Q", 4 + len(hops) + len(payload)) + hops + struct.pack(">I", 1 << 31 | request_id) + payload
    )


def exactly(connection: socket.socket, length: int) -> bytes:
    """MSG_WAITALL does not wait where there is a time limit."""
    data = b""
    while len(data) < length and (piece := connection.recv(length - len(data))):
        data += piece
    return data


def receive(connection: socket.socket) -> bytes:
    """A whole frame."""
    head = exactly(connection, 8)
    return head + exactly(connection, int.from_bytes(head, "big"))


def taken(server: Rep, limit: int = 100, takes: int = 10) -> list[bytes]:
    """What comes in so many attempts; each is answered by itself."""
    seen = []
    for _ in range(takes):
        messages, _ = server.take(limit)
        assert len(messages) <= limit
        for message in messages:
            server.reply(message, server.body_of(message))
            seen.append(server.body_of(message))
    server.flush()
    return seen


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_req_sockets_of_nng_are_answered(server: Rep, port: int, tmp_path: Path, transport: str) -> None:
    url = f"tcp://127.0.0.1:{port}" if transport == "tcp" else f"ipc://{tmp_path}/rep.ipc"
    answers = []

    def ask() -> None:
        with pynng.Req0(dial=url, recv_timeout=5000) as req:
            for text in (b"", b"one", b"x" * (LIMIT - 4)):
                req.send(text)
                answers.append(req.recv_msg().bytes == text)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until("all is answered", lambda: taken(server, takes=1) is None or len(answers) == 3, 10)
    thread.join()
    assert answers == [True] * 3


def test_a_device_of_nng_may_stand_between(server: Rep, port: int) -> None:
    """It puts the pipe that a request came from before the request ID."""
    front = f"tcp://127.0.0.1:{free_port()}"
    with (
        pynng.Rep0(opener=pynng.lib.nng_rep0_open_raw, listen=front) as facing_callers,
        pynng.Req0(opener=pynng.lib.nng_req0_open_raw, dial=f"tcp://127.0.0.1:{port}", block_on_dial=False) as on,
    ):
        device = threading.Thread(
            target=pynng.lib.nng_device, args=(facing_callers._socket[0], on._socket[0]), daemon=True
        )
        device.start()
        with pynng.Req0(dial=front, recv_timeout=5000) as req:
            req.send(b"through")
            wait_until("it comes", lambda: taken(server, takes=2) == [b"through"], 5)
            assert req.recv() == b"through"
    device.join(5)


def test_the_hops_of_a_request_come_back_before_its_id(server: Rep, caller: socket.socket) -> None:
    sent = frame(b"far", 5, hops=b"\0\0\0\1\0\0\0\2")
    caller.sendall(sent)
    assert taken(server) == [b"far"]
    assert receive(caller) == sent


def test_one_read_may_hold_many_requests_and_a_piece_of_the_next(server: Rep, caller: socket.socket) -> None:
    whole = b"".join(frame(b"%d" % i, i) for i in range(1000))
    caller.sendall(whole[:-3])
    first = taken(server, limit=7, takes=200)
    assert first == [b"%d" % i for i in range(999)]
    caller.sendall(whole[-3:])
    assert taken(server) == [b"999"]
    assert [receive(caller) for _ in range(1000)] == [frame(b"%d" % i, i) for i in range(1000)]


def test_every_cut_of_a_stream_gives_the_same_requests(server: Rep, port: int) -> None:
    stream = sp.HELLO_REQ + frame(b"", 1) + frame(b"two", 2)
    for cut in range(1, len(stream)):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(stream[:cut])
            seen = taken(server, takes=2)
            connection.sendall(stream[cut:])
            assert seen + taken(server, takes=2) == [b"", b"two"], cut


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0SP\0\0\x10\0\0",  # PAIR, not REQ
        sp.HELLO_REQ + struct.pack(">Q", LIMIT + 1),
        sp.HELLO_REQ + struct.pack(">Q", 2**64 - 1),
        sp.HELLO_REQ + struct.pack(">Q", 3) + b"abc",  # no room for a request ID
        sp.HELLO_REQ + struct.pack(">Q", 8) + b"\0" * 8,  # no end of the hops
        sp.HELLO_REQ + struct.pack(">Q", 4 * 9) + b"\0" * 32 + b"\x80\0\0\1",  # too many of them
    ],
)
def test_what_is_not_sp_loses_its_connection_and_nothing_else(
    server: Rep, caller: socket.socket, port: int, sent: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as other:
        other.sendall(sent)
        assert taken(server, takes=3) == []
        assert other.recv(8) == sp.HELLO_REP
        assert is_closed(other)
    caller.sendall(frame(b"still here"))
    assert taken(server) == [b"still here"]


def test_ipc_frames_of_another_kind_are_refused(server: Rep, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.settimeout(5)
        other.connect(f"{tmp_path}/rep.ipc")
        other.sendall(sp.HELLO_REQ + b"\2" + frame(b"x"))
        assert taken(server, takes=3) == []
        assert other.recv(8) == sp.HELLO_REP
        assert is_closed(other)


def test_who_does_not_say_what_it_is_has_to_leave(
    server: Rep, caller: socket.socket, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rep, "HELLO_SECONDS", 0.1)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as silent:
        silent.sendall(sp.HELLO_REQ[:5])
        server.take(1)
        assert silent.recv(8) == sp.HELLO_REP
        time.sleep(0.12)
        taken(server, takes=2)
        assert is_closed(silent)
    caller.sendall(frame(b"x"))
    assert taken(server) == [b"x"]


def test_who_does_not_read_is_not_read_from_and_hurts_nobody(
    server: Rep, caller: socket.socket, port: int
) -> None:
    count, size = 20_000, 5_000
    thread = threading.Thread(target=lambda: caller.sendall(b"".join(frame(b"%d" % i, i) for i in range(count))))
    thread.start()
    reply, answered = b"x" * size, 0

    def work(takes: int) -> list[bytes]:
        """What came from others."""
        nonlocal answered
        seen = []
        for _ in range(takes):
            for message in server.take(100)[0]:
                mine = server.body_of(message) != b"me"
                answered += mine
                server.reply(message, reply if mine else b"")
                seen += [] if mine else [b"me"]
        return seen

    work(200)
    before = answered
    with socket.create_connection(("127.0.0.1", port), timeout=5) as other:
        other.sendall(sp.HELLO_REQ + frame(b"me"))
        assert work(10) == [b"me"]
        assert other.recv(8) == sp.HELLO_REP
        assert receive(other) == frame(b"")
    assert before == answered < count
    got: list[int] = []
    reader = threading.Thread(target=lambda: got.extend(len(receive(caller)) for _ in range(count)))
    reader.start()
    wait_until("it gets all once it reads", lambda: work(10) or len(got) == count, 20)
    reader.join()
    thread.join()
    assert got == [8 + 4 + size] * count


def test_too_much_that_is_not_read_closes_the_connection(
    server: Rep, caller: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rep, "UNSENT_LIMIT_BYTES", 1_000_000)
    caller.sendall(b"".join(frame(b"", i) for i in range(100)))
    for message in server.take(1000)[0]:
        server.reply(message, b"x" * 200_000)
    server.flush()
    assert not server._connections


def test_a_thread_may_answer_while_the_socket_waits(server: Rep, caller: socket.socket) -> None:
    caller.sendall(frame(b"slow", 9))
    ((message,), _) = server.take(1)
    server._timeout = 5
    started = time.monotonic()
    threading.Timer(0.1, server.reply, (message, b"done")).start()
    server.take(1)
    assert receive(caller) == frame(b"done", 9)
    assert time.monotonic() - started < 2


def test_answers_to_those_who_have_left_go_nowhere(server: Rep, caller: socket.socket) -> None:
    caller.sendall(frame(b"x"))
    ((message,), _) = server.take(1)
    caller.shutdown(socket.SHUT_RDWR)
    assert taken(server) == []
    server.reply(message, b"too late")
    assert taken(server) == []


def test_how_long_a_request_has_waited_is_known(server: Rep, caller: socket.socket) -> None:
    caller.sendall(frame(b"a"))
    assert server.take(10)[1] < 50
    caller.sendall(frame(b"b") * 3)
    time.sleep(0.2)  # as long as its batch takes
    messages, waited_ms = server.take(2)
    assert (len(messages), 200 <= waited_ms < 400) == (2, True)
    time.sleep(0.1)
    messages, waited_ms = server.take(2)
    assert (len(messages), 300 <= waited_ms < 500) == (1, True)
    threading.Timer(0.01, caller.sendall, (frame(b"c"),)).start()
    time.sleep(0.005)
    assert server.take(10)[1] < 50


def test_without_file_descriptors_it_rests_and_goes_on(
    server: Rep, caller: socket.socket, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rep, "REST_SECONDS", 0.1)

    class Exhausted:
        def accept(self) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

    before, after = accepts(server), socket.create_connection(("127.0.0.1", port), timeout=5)
    server._accept(Exhausted())
    with after:
        assert taken(server, takes=2) == []
        caller.sendall(frame(b"goes on"))
        assert taken(server, takes=2) == [b"goes on"]
        assert accepts(server) == before
        time.sleep(0.1)
        taken(server, takes=3)
        assert accepts(server) == before + 1


def accepts(server: Rep) -> int:
    return len(server._connections)


def test_an_address_in_use_is_named_and_a_socket_left_behind_is_replaced(
    server: Rep, port: int, tmp_path: Path
) -> None:
    other = Rep(message_limit_bytes=LIMIT, take_timeout_ms=20)
    for url in (f"tcp://127.0.0.1:{port}", f"ipc://{tmp_path}/rep.ipc"):
        with pytest.raises(SocketError, match=f"cannot listen on {url}: Address already in use"):
            other.listen(url)
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(f"{tmp_path}/left.ipc")
    other.listen(f"ipc://{tmp_path}/left.ipc")
    other.close()
    assert not (tmp_path / "left.ipc").exists()


def test_what_was_replied_is_sent_before_the_socket_closes(port: int) -> None:
    server = Rep(message_limit_bytes=LIMIT, take_timeout_ms=20)
    server.listen(f"tcp://127.0.0.1:{port}")
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(sp.HELLO_REQ + frame(b"a", 1) + frame(b"b", 2))
        messages: list = []
        while len(messages) < 2:
            messages += server.take(10)[0]
        server.reply(messages[0], b"here")
        answer_elsewhere(lambda: server.reply(messages[1], b"there"))
        server.close()
        assert connection.recv(8) == sp.HELLO_REP
        assert receive(connection) + receive(connection) == frame(b"here", 1) + frame(b"there", 2)
        assert is_closed(connection)


def answer_elsewhere(call: Callable[[], None]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
