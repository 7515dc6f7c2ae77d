"""One contract, kept by every engine: services/engines/base.py says it, this tests it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from services.config import Etcd, Fdb
from services.engines.base import (
    ABSENT,
    KEY_LIMIT_BYTES,
    OPERATIONS_LIMIT,
    VERSION_BYTES,
    VERSION_PLACE,
    Conflict,
    Engine,
    Invalid,
    TooLarge,
    Unavailable,
)
from services.engines.memory import MemoryEngine
from tests.unit import stores

VALUE_LIMIT = 65_536
MS = 5000
_prefixes = count()


class Store:
    """An engine under test, and the server behind it (None: there is none to take away)."""

    def __init__(self, engine: Engine, server: stores.Server | None) -> None:
        self.engine, self.server = engine, server


@pytest.fixture(scope="module", params=["memory", "etcd", "fdb"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    directory: Path = tmp_path_factory.mktemp(request.param)
    if request.param == "memory":
        yield Store(MemoryEngine(VALUE_LIMIT), None)
        return
    reason = stores.etcd_missing() if request.param == "etcd" else stores.fdb_missing()
    if reason:
        pytest.skip(f"{request.param}: {reason}")
    server = stores.etcd(directory) if request.param == "etcd" else stores.Fdb(directory)
    server.start()
    try:
        if request.param == "etcd":
            from services.engines.etcd import EtcdEngine

            engine = EtcdEngine(Etcd(endpoints=[f"http://127.0.0.1:{server.port}"]), VALUE_LIMIT)
        else:
            server.configure()
            from services.engines.fdb import FdbEngine

            engine = FdbEngine(
                Fdb(
                    cluster_file=str(server.cluster_file),
                    client_library=str(server.library),
                    transaction_timeout_ms=5000,
                ),
                VALUE_LIMIT,
            )
        stores.wait_until("the store answers", lambda: _answers(engine), 60)
        yield Store(engine, server)
        engine.close()
    finally:
        server.stop()


@pytest.fixture
def engine(store: Store) -> Engine:
    return store.engine


@pytest.fixture
def prefix() -> bytes:
    """Keys of one test only."""
    return b"test%d/" % next(_prefixes)


def _answers(engine: Engine) -> bool:
    try:
        engine.get_many([b"x"], 500)
    except Unavailable:
        return False
    return True


def put(engine: Engine, key: bytes, value: bytes) -> bytes:
    return engine.transact({}, {key: value}, MS)


def get(engine: Engine, key: bytes) -> bytes | None:
    return engine.get_many([key], MS)[0]


def test_what_was_written_is_read_with_its_version_before_it(engine: Engine, prefix: bytes) -> None:
    version = put(engine, prefix + b"a", b"value")
    assert len(version) == VERSION_BYTES > 0
    assert version > ABSENT
    assert engine.get_many([prefix + b"a", prefix + b"b"], MS) == [version + b"value", None]


@pytest.mark.parametrize("value", [b"", b"\0", bytes(range(256)), "Åse ☃".encode(), b"x" * VALUE_LIMIT])
def test_any_bytes_are_a_value(engine: Engine, prefix: bytes, value: bytes) -> None:
    version = put(engine, prefix, value)
    assert get(engine, prefix) == version + value


@pytest.mark.parametrize("key", [b"\0", b"\x00\xff", b"k" * KEY_LIMIT_BYTES, "☃/ü".encode()])
def test_any_bytes_are_a_key(engine: Engine, key: bytes) -> None:
    version = put(engine, key, b"1")
    assert get(engine, key) == version + b"1"
    engine.transact({}, {key: None}, MS)


def test_a_key_may_be_asked_twice_in_one_batch(engine: Engine, prefix: bytes) -> None:
    record = put(engine, prefix, b"1") + b"1"
    assert engine.get_many([prefix, prefix, prefix + b"-", prefix], MS) == [record, record, None, record]


def test_a_batch_may_be_larger_than_a_transaction_of_the_store(engine: Engine, prefix: bytes) -> None:
    keys = [prefix + b"%05d" % i for i in range(2 * OPERATIONS_LIMIT + 20)]
    for at in range(0, len(keys), 100):
        engine.transact({}, {key: key for key in keys[at : at + 100]}, MS)
    records = engine.get_many(keys, MS)
    assert [record[VERSION_BYTES:] for record in records] == keys
    assert engine.get_many([], MS) == []


def test_versions_only_grow(engine: Engine, prefix: bytes) -> None:
    versions = [put(engine, prefix + b"%d" % (i % 3), b"v") for i in range(20)]
    assert versions == sorted(set(versions))
    engine.transact({}, {prefix + b"0": None}, MS)
    assert put(engine, prefix + b"0", b"again") > versions[-1]


def test_all_of_a_transaction_has_one_version(engine: Engine, prefix: bytes) -> None:
    version = engine.transact({}, {prefix + b"a": b"1", prefix + b"b": b"2"}, MS)
    assert engine.get_many([prefix + b"a", prefix + b"b"], MS) == [version + b"1", version + b"2"]


def test_a_delete_removes_and_needs_nothing_to_be_there(engine: Engine, prefix: bytes) -> None:
    put(engine, prefix, b"1")
    engine.transact({}, {prefix: None, prefix + b"never": None}, MS)
    assert engine.get_many([prefix, prefix + b"never"], MS) == [None, None]


def test_a_check_holds_or_nothing_is_written(engine: Engine, prefix: bytes) -> None:
    first = put(engine, prefix, b"1")
    second = engine.transact({prefix: first}, {prefix: b"2"}, MS)
    assert second > first
    for wrong in (first, ABSENT):
        with pytest.raises(Conflict):
            engine.transact({prefix: wrong}, {prefix: b"3", prefix + b"other": b"3"}, MS)
    assert engine.get_many([prefix, prefix + b"other"], MS) == [second + b"2", None]


def test_absence_can_be_checked(engine: Engine, prefix: bytes) -> None:
    engine.transact({prefix: ABSENT}, {prefix: b"1"}, MS)
    with pytest.raises(Conflict):
        engine.transact({prefix: ABSENT}, {prefix: b"2"}, MS)
    engine.transact({}, {prefix: None}, MS)
    engine.transact({prefix: ABSENT}, {prefix: b"3"}, MS)
    assert get(engine, prefix)[VERSION_BYTES:] == b"3"


def test_a_check_may_be_on_a_key_that_is_not_written(engine: Engine, prefix: bytes) -> None:
    guard = put(engine, prefix + b"guard", b"")
    engine.transact({prefix + b"guard": guard}, {prefix + b"a": b"1"}, MS)
    put(engine, prefix + b"guard", b"")
    with pytest.raises(Conflict):
        engine.transact({prefix + b"guard": guard}, {prefix + b"a": b"2"}, MS)


def test_concurrent_increments_lose_none(engine: Engine, prefix: bytes) -> None:
    put(engine, prefix, b"0")
    conflicts = []

    def increment(_: int) -> None:
        while True:
            record = get(engine, prefix)
            value = b"%d" % (int(record[VERSION_BYTES:]) + 1)
            try:
                engine.transact({prefix: record[:VERSION_BYTES]}, {prefix: value}, MS)
                return
            except Conflict:
                conflicts.append(1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(increment, range(40)))
    assert get(engine, prefix)[VERSION_BYTES:] == b"40"


def test_a_batch_is_read_at_one_moment(engine: Engine, prefix: bytes) -> None:
    keys = [prefix + b"%03d" % i for i in range(60)]
    engine.transact({}, {key: b"0" for key in keys}, MS)
    stop = threading.Event()

    def write() -> None:
        for number in count(1):
            if stop.is_set():
                return
            engine.transact({}, {key: b"%d" % number for key in keys}, MS)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(30):
            assert len(set(engine.get_many(keys, MS))) == 1
    finally:
        stop.set()
        writer.join()


def test_a_range_is_ordered_bounded_and_turned_round(engine: Engine, prefix: bytes) -> None:
    names = [b"a", b"a\0", b"a\xff", b"b", b"c", b"\xc3\xa5"]
    version = engine.transact({}, {prefix + name: name for name in names}, MS)
    everything = [(prefix + name, version + name) for name in sorted(names)]
    end = prefix[:-1] + b"0"
    assert engine.range(prefix, end, 100, MS) == everything
    assert engine.range(prefix, end, 100, MS, reverse=True) == everything[::-1]
    assert engine.range(prefix, end, 2, MS) == everything[:2]
    assert engine.range(prefix, end, 2, MS, reverse=True) == everything[:-3:-1]
    assert engine.range(prefix + b"a\0", prefix + b"c", 100, MS) == everything[1:4]
    assert engine.range(prefix + b"c", prefix + b"c", 100, MS) == []
    assert engine.range(prefix + b"c", prefix + b"a", 100, MS) == []
    assert engine.range(prefix, end, 0, MS) == []


def test_a_long_range_of_large_values(engine: Engine, prefix: bytes) -> None:
    value = b"v" * 10_000
    keys = [prefix + b"%04d" % i for i in range(200)]
    for at in range(0, len(keys), 50):
        engine.transact({}, {key: value for key in keys[at : at + 50]}, MS)
    end = prefix[:-1] + b"0"
    assert [key for key, _ in engine.range(prefix, end, 1000, MS)] == keys
    assert [key for key, _ in engine.range(prefix, end, 150, MS, reverse=True)] == keys[:49:-1]


def appended(engine: Engine, prefix: bytes) -> list[tuple[bytes, bytes]]:
    return engine.range(prefix + b"log/", prefix + b"log0", 1000, MS)


def test_appends_stand_in_the_order_of_their_commits(engine: Engine, prefix: bytes) -> None:
    place = prefix + b"log/" + VERSION_PLACE
    versions = [engine.transact({}, {place: b"%d" % i, prefix + b"row": b"%d" % i}, MS) for i in range(5)]
    found = appended(engine, prefix)
    assert [record for _, record in found] == [version + b"%d" % i for i, version in enumerate(versions)]
    assert [len(key) for key, _ in found] == [len(prefix) + 4 + VERSION_BYTES] * 5
    assert get(engine, prefix + b"row") == versions[-1] + b"4"
    assert engine.range(found[2][0] + b"\0", prefix + b"log0", 2, MS) == found[3:]
    assert engine.range(prefix + b"log/", prefix + b"log0", 2, MS, reverse=True) == found[:2:-1]
    engine.transact({}, {key: None for key, _ in found[:3]}, MS)
    engine.transact({}, {place: b"5"}, MS)
    assert [record[VERSION_BYTES:] for _, record in appended(engine, prefix)] == [b"3", b"4", b"5"]


def test_an_append_whose_check_fails_leaves_nothing(engine: Engine, prefix: bytes) -> None:
    place = prefix + b"log/" + VERSION_PLACE
    first = engine.transact({prefix: ABSENT}, {place: b"1", prefix: b"1"}, MS)
    for wrong in (ABSENT, first[:-3] + b"\xff" * 3):
        with pytest.raises(Conflict):
            engine.transact({prefix: wrong}, {place: b"2", prefix: b"2"}, MS)
    engine.transact({prefix: first}, {place: b"3", prefix: None}, MS)
    assert [record[VERSION_BYTES:] for _, record in appended(engine, prefix)] == [b"1", b"3"]


def test_concurrent_appends_lose_none_and_none_comes_late(engine: Engine, prefix: bytes) -> None:
    """Who follows the log by the last key that it saw sees every entry once."""
    place = prefix + b"log/" + VERSION_PLACE
    followed: list[bytes] = []
    ended = threading.Event()

    def follow() -> None:
        begin = prefix + b"log/"
        while True:
            last_look = ended.is_set()
            for key, record in engine.range(begin, prefix + b"log0", 1000, MS):
                followed.append(record[VERSION_BYTES:])
                begin = key + b"\0"
            if last_look:
                return

    follower = threading.Thread(target=follow)
    follower.start()
    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(lambda i: engine.transact({}, {place: b"%d" % i}, MS), range(60)))
    ended.set()
    follower.join()
    assert [int(value) for value in followed] == sorted(range(60), key=lambda i: versions[i])


def test_limits_of_appends(engine: Engine, prefix: bytes) -> None:
    place = prefix + b"log/" + VERSION_PLACE
    with pytest.raises(Invalid, match="2 appends"):
        engine.transact({}, {place: b"1", prefix + VERSION_PLACE: b"2"}, MS)
    with pytest.raises(Invalid, match="needs a value"):
        engine.transact({}, {place: None}, MS)
    with pytest.raises(TooLarge, match="key of 1025 bytes"):
        engine.transact({}, {b"k" * (KEY_LIMIT_BYTES - VERSION_BYTES + 1) + VERSION_PLACE: b""}, MS)
    rows = {prefix + b"%d" % i: b"" for i in range(OPERATIONS_LIMIT - 2)}
    engine.transact({}, {place: b"1", **rows}, MS)
    with pytest.raises(TooLarge):
        engine.transact({}, {place: b"1", **rows, prefix: b""}, MS)


def test_limits_are_said_clearly(engine: Engine, prefix: bytes) -> None:
    with pytest.raises(TooLarge, match="value of 65537 bytes, limit 65536"):
        put(engine, prefix, b"x" * (VALUE_LIMIT + 1))
    with pytest.raises(TooLarge, match="key of 1025 bytes, limit 1024"):
        put(engine, b"k" * (KEY_LIMIT_BYTES + 1), b"")
    with pytest.raises(TooLarge, match="129 checks and writes, limit 128"):
        engine.transact({}, {prefix + b"%d" % i: b"" for i in range(OPERATIONS_LIMIT + 1)}, MS)
    for key in (b"", b"\xff", b"\xff\xff/status/json"):
        with pytest.raises(Invalid):
            put(engine, key, b"")
    with pytest.raises(Invalid, match="version of 3 bytes"):
        engine.transact({prefix: b"abc"}, {prefix: b""}, MS)
    with pytest.raises(Invalid, match="without writes"):
        engine.transact({prefix: ABSENT}, {}, MS)


def test_many_threads_at_once(engine: Engine, prefix: bytes) -> None:
    def work(number: int) -> bool:
        key = prefix + b"%d" % number
        version = put(engine, key, b"%d" % number)
        return get(engine, key) == version + b"%d" % number

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(80)))


@pytest.mark.parametrize("how", ["paused", "stopped"])
def test_a_store_that_is_away_is_said_in_time_and_found_again(store: Store, prefix: bytes, how: str) -> None:
    engine, server = store.engine, store.server
    if server is None:
        pytest.skip("memory: has no server that could be away")
    if how == "stopped" and isinstance(server, stores.Fdb):
        time.sleep(2)  # restarted at once, fdbserver finds its address in use
    version = put(engine, prefix, b"1")
    server.pause() if how == "paused" else server.stop()
    try:
        for call in (
            lambda: engine.get_many([prefix], 300),
            lambda: engine.range(prefix, prefix + b"z", 10, 300),
            lambda: engine.transact({prefix: version}, {prefix: b"2"}, 300),
        ):
            started = time.monotonic()
            with pytest.raises(Unavailable):
                call()
            assert time.monotonic() - started < 1.0
    finally:
        if how == "stopped" and isinstance(server, stores.Fdb):
            time.sleep(2)
        server.resume() if how == "paused" else server.start()
    stores.wait_until("the store is found again", lambda: _answers(engine), 30)
    record = get(engine, prefix)
    assert record == version + b"1" or record[VERSION_BYTES:] == b"2"  # the write's outcome was unknown
    assert put(engine, prefix, b"3") > version
