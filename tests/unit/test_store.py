"""The store worker as a process, asked by any REQ client there is, and by what is none."""

from __future__ import annotations

import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pynng
import pytest

from services import sp
from services.client import StoreAway, StoreClient
from tests.unit.serving import ServingPath


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingPath]:
    serving = ServingPath(tmp_path_factory.mktemp("store"))
    serving.start_store()
    yield serving
    serving.stop()


@pytest.fixture
def client(path: ServingPath) -> Iterator[StoreClient]:
    client = StoreClient(path.ipc)
    yield client
    client.close()


@pytest.fixture
def tcp(path: ServingPath) -> Iterator[socket.socket]:
    """A raw connection, hello exchanged."""
    with socket.create_connection(("127.0.0.1", path.ports["store"]), timeout=5) as connection:
        connection.sendall(sp.HELLO_REQ)
        assert connection.recv(8) == sp.HELLO_REP
        yield connection


def frame(payload: bytes, request_id: int = 1) -> bytes:
    return struct.pack(">QI", 4 + len(payload), 0x80000000 | request_id) + payload


def receive(connection: socket.socket) -> tuple[int, sp.Reply]:
    head = connection.recv(12, socket.MSG_WAITALL)
    length, request_id = struct.unpack(">QI", head)
    return request_id & 0x7FFFFFFF, sp.parse_reply(connection.recv(length - 4, socket.MSG_WAITALL))


def serves(path: ServingPath) -> bool:
    client = StoreClient(path.ipc)
    try:
        return client.ask(sp.PING, b"", 2000).status == sp.OK
    finally:
        client.close()


def put(client: StoreClient, key: bytes, value: bytes) -> bytes:
    reply = client.ask(sp.TRANSACT, sp.transact_body({}, {key: value}), 2000)
    assert reply.status == sp.OK
    return reply.body


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_a_req_socket_of_nng_can_ask(path: ServingPath, client: StoreClient, transport: str) -> None:
    version = put(client, b"nng", b"value")
    url = f"tcp://127.0.0.1:{path.ports['store']}" if transport == "tcp" else f"ipc://{path.ipc[0]}"
    with pynng.Req0(dial=url, recv_timeout=3000) as socket_:
        socket_.send(sp.request(sp.GET, b"nng"))
        assert sp.parse_reply(socket_.recv()) == (sp.OK, False, "dev", version + b"value")


def test_every_operation(client: StoreClient) -> None:
    assert client.ask(sp.GET, b"op/none", 1000).status == sp.NOT_FOUND
    version = put(client, b"op/a", b"1")
    assert client.ask(sp.GET, b"op/a", 1000).body == version + b"1"
    reply = client.ask(sp.RANGE, sp.range_body(b"op/", b"op0", 10), 1000)
    assert sp.parse_range_reply(reply.body) == [(b"op/a", version + b"1")]
    conflict = client.ask(sp.TRANSACT, sp.transact_body({b"op/a": sp.ABSENT}, {b"op/a": b"2"}), 1000)
    assert conflict.status == sp.CONFLICT
    assert client.ask(sp.PING, b"", 1000).status == sp.OK


@pytest.mark.parametrize(
    ("operation", "body", "status"),
    [
        (sp.GET, b"", sp.INVALID),
        (sp.GET, b"k" * 1025, sp.INVALID),
        (sp.GET, b"\xff\xff/status/json", sp.INVALID),
        (sp.RANGE, b"x", sp.INVALID),
        (sp.RANGE, sp.range_body(b"a", b"b", 1_000_000), sp.TOO_LARGE),
        (sp.TRANSACT, b"", sp.INVALID),
        (sp.TRANSACT, sp.transact_body({}, {}), sp.INVALID),
        (sp.TRANSACT, sp.transact_body({}, {b"k": b"x" * 70_000}), sp.TOO_LARGE),
        (77, b"", sp.UNSUPPORTED),
    ],
)
def test_what_cannot_be_done_is_refused(client: StoreClient, operation: int, body: bytes, status: int) -> None:
    reply = client.ask(operation, body, 1000)
    assert reply.status == status
    assert reply.body.decode()


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        (b"", sp.INVALID),
        (b"G", sp.INVALID),
        (b"PUT / HTTP/1.1\r\n\r\n", sp.INVALID),
        (b"G\x02rest", sp.UNSUPPORTED),
    ],
)
def test_garbage_in_a_frame_is_answered(tcp: socket.socket, payload: bytes, status: int) -> None:
    tcp.sendall(frame(payload, 7))
    request_id, reply = receive(tcp)
    assert (request_id, reply.status) == (7, status)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0SP\0\0\x10\0\0",  # PAIR, not REQ
        sp.HELLO_REQ + struct.pack(">Q", 2**63),
        sp.HELLO_REQ + struct.pack(">Q", 2**30) + b"x" * 1000,
        sp.HELLO_REQ + struct.pack(">Q", 2) + b"ab",  # no room for a request ID
        sp.HELLO_REQ + struct.pack(">Q", 10) + b"\0" * 10,  # no end of the backtrace
    ],
)
def test_what_is_not_sp_loses_its_connection_and_nothing_else(path: ServingPath, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", path.ports["store"]), timeout=3) as connection:
        connection.sendall(sent)
        with_end = b""
        try:
            while piece := connection.recv(100):
                with_end += piece
        except (TimeoutError, ConnectionResetError):
            pass
        assert with_end in (b"", sp.HELLO_REP)
    assert serves(path)


def test_a_frame_in_pieces_and_a_caller_that_leaves(path: ServingPath, tcp: socket.socket) -> None:
    whole = frame(sp.request(sp.GET, b"pieces"), 3)
    for byte in whole[:-1]:
        tcp.sendall(bytes([byte]))
    tcp.sendall(whole[-1:])
    assert receive(tcp)[0] == 3
    with socket.create_connection(("127.0.0.1", path.ports["store"])) as leaving:
        leaving.sendall(sp.HELLO_REQ + frame(sp.request(sp.GET, b"x")) + whole[:10])
    assert serves(path)


def test_many_requests_on_one_connection_are_all_answered(tcp: socket.socket) -> None:
    ids = range(1, 501)
    tcp.sendall(b"".join(frame(sp.request(sp.GET, b"many/%d" % i), i) for i in ids[:60]))
    answered = {receive(tcp)[0] for _ in ids[:60]}
    assert answered == set(ids[:60])


def test_many_clients_at_once(path: ServingPath, client: StoreClient) -> None:
    versions = {b"c/%d" % i: put(client, b"c/%d" % i, b"%d" % i) for i in range(20)}
    wrong: list[object] = []

    def work(number: int) -> None:
        mine = StoreClient(path.ipc)
        for i in range(100):
            key = b"c/%d" % ((number + i) % 20)
            reply = mine.ask(sp.GET, key, 3000)
            if reply.body != versions[key] + key[2:]:
                wrong.append(reply)
        mine.close()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_worker_that_leaves_says_so_answers_all_and_exits_0(tmp_path: Path) -> None:
    serving = ServingPath(tmp_path / "leaving")
    process = serving.start_store()
    client = StoreClient(serving.ipc)
    put(client, b"k", b"v")
    outcomes: list[tuple[int, bool]] = []
    stop = threading.Event()

    def keep_asking() -> None:
        mine = StoreClient(serving.ipc)
        while not stop.is_set():
            reply = mine.ask(sp.GET, b"k", 2000)
            outcomes.append((reply.status, reply.leaving))
            if reply.leaving:
                return  # as the proxies do
            time.sleep(0.002)

    threads = [threading.Thread(target=keep_asking) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    assert time.monotonic() - started < 3
    stop.set()
    for thread in threads:
        thread.join()
    assert all(status == sp.OK for status, _ in outcomes)
    assert sum(leaving for _, leaving in outcomes) == 4
    with pytest.raises(StoreAway):
        client.ask(sp.GET, b"k", 300)


def test_a_client_goes_to_another_worker_for_reads_and_never_repeats_a_write(tmp_path: Path) -> None:
    serving = ServingPath(tmp_path / "two", workers=2)
    first, _ = serving.start_store(0), serving.start_store(1)
    try:
        client = StoreClient(serving.ipc)
        assert client.ask(sp.GET, b"k", 1000).status == sp.NOT_FOUND
        first.send_signal(signal.SIGSTOP)
        with pytest.raises(StoreAway):
            client.ask(sp.TRANSACT, sp.transact_body({}, {b"k": b"1"}), 300)
        assert client.ask(sp.GET, b"k", 1000).status == sp.NOT_FOUND  # the second worker's store
        first.send_signal(signal.SIGCONT)
        first.kill()
        first.wait()
        for _ in range(4):
            assert client.ask(sp.GET, b"k", 1000).status == sp.NOT_FOUND
    finally:
        first.send_signal(signal.SIGCONT) if first.poll() is None else None
        serving.stop()


def test_a_port_that_is_taken_is_named(path: ServingPath, tmp_path: Path) -> None:
    other = ServingPath(tmp_path / "taken")
    other.configuration["store"]["port"] = path.ports["store"]
    other.ports["store"] = path.ports["store"]
    process = other.start_store()
    assert process.wait(5) == 1
    url = f"tcp://127.0.0.1:{path.ports['store']}"
    assert f"store a-0: cannot listen on {url}: Address already in use" in other.log()
