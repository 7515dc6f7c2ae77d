"""The store worker's loop, with a socket and an engine that do as they are told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import pytest

from services import sp, store
from services.config import parse
from services.engines.base import ABSENT, Conflict, Full, TooLarge, Unavailable
from tests.unit.test_services_config import changed

VERSION = ABSENT[:-1] + b"\x01"
CONFIG = parse(changed("store.engine", "memory"))


class Socket:
    """Hands out batches of (payload, ...) and keeps the replies, by payload."""

    def __init__(self, *batches: Sequence[bytes], waited_ms: float = 0) -> None:
        self.batches, self.replies, self.waited_ms = list(batches), [], waited_ms
        self.closed = False
        self.on_empty: Callable[[], None] = lambda: None

    def take(self, limit: int) -> tuple[list[bytes], float]:
        if not self.batches:
            self.on_empty()
            time.sleep(0.01)
            return [], 0.0
        batch, self.batches = self.batches[0], self.batches[1:]
        return list(batch[:limit]), self.waited_ms

    body_of = staticmethod(bytes)

    def reply(self, message: bytes, body: bytes) -> None:
        self.replies.append((message, sp.parse_reply(body)))

    def flush(self) -> None: ...

    def close(self) -> None:
        self.closed = True


class Engine:
    """Every key has its own name as value, except b"none"; `raises` replaces all answers."""

    def __init__(self, raises: Exception | None = None) -> None:
        self.full = False
        self.raises, self.batches, self.timeouts, self.transactions = raises, [], [], []

    def get_many(self, keys: Sequence[bytes], timeout_ms: int) -> list[bytes | None]:
        self.batches.append(list(keys))
        self.timeouts.append(timeout_ms)
        if self.raises:
            raise self.raises
        return [None if key == b"none" else VERSION + key for key in keys]

    def check_writable(self) -> None:
        if self.full:
            raise Full("etcd uses 96% of its quota")

    def transact(self, checks: Mapping, writes: Mapping, timeout_ms: int) -> bytes:
        if self.raises:
            raise self.raises
        self.transactions.append((checks, writes))
        return VERSION


class NoMetrics:
    def add(self, *_: object) -> None: ...

    def observe(self, *_: object) -> None: ...


def run(socket: Socket, engine: Engine) -> list[tuple[bytes, sp.Reply]]:
    """Everything that is replied until the socket is empty."""
    worker = store.Worker(CONFIG, engine, socket, "r-test", NoMetrics())
    socket.on_empty = worker.leave
    worker.run()
    assert socket.closed
    return socket.replies


def get(key: bytes, budget_ms: int = 0) -> bytes:
    return sp.request(sp.GET, key, budget_ms=budget_ms)


def test_a_batch_is_one_read_and_each_request_gets_its_own_answer() -> None:
    engine = Engine()
    replies = run(Socket([get(b"a"), get(b"none"), get(b"b")]), engine)
    assert engine.batches == [[b"a", b"none", b"b"]]
    assert [(m, r.status, r.release, r.body) for m, r in replies] == [
        (get(b"a"), sp.OK, "r-test", VERSION + b"a"),
        (get(b"none"), sp.NOT_FOUND, "r-test", b""),
        (get(b"b"), sp.OK, "r-test", VERSION + b"b"),
    ]


def test_one_bad_request_does_not_hurt_the_others() -> None:
    bad = [b"", b"junk", get(b""), get(b"\xff"), sp.request(99, b""), b"G\x09"]
    engine = Engine()
    replies = dict(run(Socket([get(b"a"), *bad, get(b"b")]), engine))
    assert engine.batches == [[b"a", b"b"]]
    assert replies[get(b"a")].status == replies[get(b"b")].status == sp.OK
    assert [replies[m].status for m in bad] == [sp.INVALID] * 4 + [sp.UNSUPPORTED] * 2


def test_what_has_waited_longer_than_its_deadline_is_answered_as_expired_without_a_read() -> None:
    engine = Engine()
    replies = dict(run(Socket([get(b"late", 50), get(b"b", 1000)], waited_ms=60), engine))
    assert engine.batches == [[b"b"]]
    assert replies[get(b"late", 50)].status == sp.EXPIRED


def test_the_engine_gets_the_longest_time_left_in_the_batch_and_never_more_than_the_workers_own() -> None:
    engine = Engine()
    run(Socket([get(b"a", 10), get(b"b", 100)], [get(b"c", 60_000)]), engine)
    assert 80 <= engine.timeouts[0] <= 100
    assert engine.timeouts[1] == CONFIG.store.deadline_ms


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (Unavailable("no quorum"), sp.UNAVAILABLE, "no quorum"),
        (ValueError("secret details"), sp.FAILED, "ValueError"),
    ],
)
def test_an_engine_that_fails_fails_the_batch_and_not_the_worker(error: Exception, status: int, text: str) -> None:
    engine = Engine(error)
    socket = Socket([get(b"a"), get(b"b")])
    worker = store.Worker(CONFIG, engine, socket, "r-test", NoMetrics())

    def recover() -> None:
        socket.on_empty = worker.leave
        engine.raises = None
        socket.batches = [[get(b"c")]]

    socket.on_empty = recover
    worker.run()
    assert [(r.status, r.body.decode()) for _, r in socket.replies[:2]] == [(status, text)] * 2
    assert socket.replies[2][1].body == VERSION + b"c"


def test_a_full_store_is_read_and_says_so_when_pinged() -> None:
    engine, ping = Engine(), sp.request(sp.PING, b"")
    assert [reply.status for _, reply in run(Socket([ping]), engine)] == [sp.OK]
    engine.full = True
    replies = dict(run(Socket([get(b"a"), ping]), engine))
    assert replies[get(b"a")].status == sp.OK
    assert (replies[ping].status, replies[ping].body) == (sp.FULL, b"etcd uses 96% of its quota")


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, sp.OK), (Conflict("x"), sp.CONFLICT), (TooLarge("x"), sp.TOO_LARGE), (Full("x"), sp.FULL)],
)
def test_a_transaction_is_answered_by_a_thread_of_its_own(error: Exception | None, status: int) -> None:
    message = sp.request(sp.TRANSACT, sp.transact_body({b"k": ABSENT}, {b"k": b"v", b"gone": None}))
    engine = Engine(error)
    replies = run(Socket([message]), engine)
    assert [r.status for _, r in replies] == [status]
    if error is None:
        assert engine.transactions == [({b"k": ABSENT}, {b"k": b"v", b"gone": None})]


def test_reads_do_not_wait_behind_a_write() -> None:
    release = threading.Event()

    class Slow(Engine):
        def transact(self, *_: object) -> bytes:
            assert release.wait(5)
            return VERSION

    write = sp.request(sp.TRANSACT, sp.transact_body({}, {b"k": b"v"}), budget_ms=5000)
    socket = Socket([write], [get(b"a")])
    worker = store.Worker(CONFIG, Slow(), socket, "r-test", NoMetrics())

    def leave() -> None:
        assert release.is_set() or [m for m, _ in socket.replies] == [get(b"a")]
        release.set()
        worker.leave()

    socket.on_empty = leave
    worker.run()
    assert [m for m, _ in socket.replies] == [get(b"a"), write]


def test_only_so_many_writes_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "WRITES_HELD", 3)
    release = threading.Event()

    class Slow(Engine):
        def transact(self, *_: object) -> bytes:
            assert release.wait(5)
            return VERSION

    write = sp.request(sp.TRANSACT, sp.transact_body({}, {b"k": b"v"}), budget_ms=5000)
    socket = Socket([write] * 5)
    worker = store.Worker(CONFIG, Slow(), socket, "r-test", NoMetrics())

    def leave() -> None:
        release.set()
        worker.leave()

    socket.on_empty = leave
    worker.run()
    statuses = [r.status for _, r in socket.replies]
    assert statuses == [sp.UNAVAILABLE] * 2 + [sp.OK] * 3


def test_a_worker_pins_itself_to_one_of_the_cores_that_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[set[int]] = []
    monkeypatch.setattr(store.os, "sched_getaffinity", lambda _: {2, 5, 7})
    monkeypatch.setattr(store.os, "sched_setaffinity", lambda _, cores: chosen.append(cores))
    for worker in range(4):
        store.pin(worker)
    assert chosen == [{2}, {5}, {7}, {2}]
