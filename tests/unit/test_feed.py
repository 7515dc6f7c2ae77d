"""The log's consumer: exactly once, in order, whoever else consumes; and the feeds that clients read."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services import feed, message, sp
from services.client import StoreAway
from services.engines.base import Conflict
from services.engines.memory import MemoryEngine
from tests.unit.serving import Answer, ServingPath, nginx_missing
from tests.unit.stores import wait_until


class NoMetrics:
    def add(self, *_: object) -> None: ...


class Client:
    """A store client over an engine in this process. `lose`: the next write is lost, or only its answer."""

    def __init__(self, engine: MemoryEngine) -> None:
        self.engine = engine
        self.lose: str | None = None

    def ask(self, operation: int, body: bytes, deadline_ms: int) -> sp.Reply:
        try:
            return sp.Reply(sp.OK, False, "", self._answer(operation, body))
        except KeyError:
            return sp.Reply(sp.NOT_FOUND, False, "", b"")
        except Conflict:
            return sp.Reply(sp.CONFLICT, False, "", b"")

    def _answer(self, operation: int, body: bytes) -> bytes:
        if operation == sp.GET:
            (record,) = self.engine.get_many([body], 0)
            if record is None:
                raise KeyError(body)
            return record
        if operation == sp.RANGE:
            begin, end, limit, reverse = sp.parse_range(body)
            return sp.range_reply(self.engine.range(begin, end, limit, 0, reverse=reverse))
        lose, self.lose = self.lose, None
        if lose == "before":
            raise StoreAway("lost")
        version = self.engine.transact(*sp.parse_transact(body), 0)
        if lose == "after":
            raise StoreAway("lost")
        return version


@pytest.fixture
def engine() -> MemoryEngine:
    return MemoryEngine(65536)


def send(engine: MemoryEngine, profile: str, text: str) -> None:
    engine.transact({}, message.writes(profile, text.encode(), {"from": "x", "text": text}), 0)


def texts(engine: MemoryEngine, profile: str) -> list[str]:
    begin, end = message.feed_range(profile, None)
    return [json.loads(record[10:])["text"] for _, record in engine.range(begin, end, 1000, 0)]


def events(engine: MemoryEngine) -> int:
    return len(engine.range(message.EVENTS, message.EVENTS[:-1] + b"0", 1000, 0))


def drain(consumer: feed.Feed) -> None:
    for _ in range(50):
        try:
            if not consumer.run_once():
                return
        except (StoreAway, feed.Conflict):
            continue
    raise AssertionError("it does not end")


def test_events_become_rows_once_in_order_and_the_log_is_trimmed(engine: MemoryEngine) -> None:
    consumer = feed.Feed(Client(engine), NoMetrics())
    for i in range(150):
        send(engine, f"p{i % 2}", str(i))
    drain(consumer)
    send(engine, "p0", "150")
    drain(consumer)
    assert texts(engine, "p0") == [str(i) for i in range(0, 151, 2)]
    assert texts(engine, "p1") == [str(i) for i in range(1, 150, 2)]
    drain(feed.Feed(Client(engine), NoMetrics()))  # another one begins: it looks, consumes nothing, and trims
    assert events(engine) == 0
    assert len(texts(engine, "p0")) == 76


@pytest.mark.parametrize("lose", ["before", "after"])
def test_a_commit_whose_answer_is_lost_has_its_effect_once(engine: MemoryEngine, lose: str) -> None:
    client = Client(engine)
    consumer = feed.Feed(client, NoMetrics())
    send(engine, "p", "1")
    client.lose = lose
    with pytest.raises(StoreAway):
        consumer.run_once()
    send(engine, "p", "2")
    drain(consumer)
    assert texts(engine, "p") == ["1", "2"]


def test_several_feeds_at_once_are_safe(engine: MemoryEngine) -> None:
    consumers = [feed.Feed(Client(engine), NoMetrics()) for _ in range(3)]
    stop = threading.Event()

    def consume(consumer: feed.Feed) -> None:
        while not stop.is_set():
            try:
                consumer.run_once()
            except feed.Conflict:
                time.sleep(0.001)

    threads = [threading.Thread(target=consume, args=(consumer,)) for consumer in consumers]
    for thread in threads:
        thread.start()
    for i in range(300):
        send(engine, "p", str(i))
    wait_until("all is consumed", lambda: len(texts(engine, "p")) >= 300)
    stop.set()
    for thread in threads:
        thread.join()
    drain(feed.Feed(Client(engine), NoMetrics()))
    assert texts(engine, "p") == [str(i) for i in range(300)]


def test_the_log_is_kept_for_the_slowest_cursor(engine: MemoryEngine) -> None:
    for i in range(3):
        send(engine, "p", str(i))
    (first, _), *_ = engine.range(message.EVENTS, message.EVENTS[:-1] + b"0", 1, 0)
    engine.transact({}, {b"cursor/other": first[len(message.EVENTS) :]}, 0)
    drain(feed.Feed(Client(engine), NoMetrics()))
    assert events(engine) == 2


def test_a_deleted_profile_takes_its_feed_with_it_and_not_what_came_after(engine: MemoryEngine) -> None:
    consumer = feed.Feed(Client(engine), NoMetrics())
    for i in range(70):
        send(engine, "p", f"old{i}")
    drain(consumer)
    send(engine, "p", "last")
    send(engine, "q", "other")
    engine.transact({}, {message.APPEND: message.deleted_event("p")}, 0)
    send(engine, "p", "new")
    drain(consumer)
    assert (texts(engine, "p"), texts(engine, "q")) == (["new"], ["other"])
    for kind in ("message", "idempotency"):
        begin = message.key_of(kind, "p")
        assert len(engine.range(begin, begin[:-1] + b"0", 1000, 0)) == 1


def test_an_event_of_another_release_is_passed_over(engine: MemoryEngine) -> None:
    for value in (b'{"type":"later","profile":"p"}', b"not JSON", b"[]"):
        engine.transact({}, {message.APPEND: value}, 0)
    send(engine, "p", "1")
    drain(feed.Feed(Client(engine), NoMetrics()))
    assert texts(engine, "p") == ["1"]


# --- through nginx


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingPath]:
    if reason := nginx_missing():
        pytest.skip(reason)
    serving = ServingPath(tmp_path_factory.mktemp("feed"))
    serving.configuration["feed"]["poll_ms"] = 30_000  # only nudges are in time
    serving.start_store()
    serving.start_feed()
    serving.start_front()
    serving.start_nginx()
    yield serving
    serving.stop()


def post(path: ServingPath, profile: str, text: str, key: str) -> Answer:
    body = json.dumps({"from": "ada", "text": text}).encode()
    return path.ask("POST", f"/v1/profiles/{profile}/messages", body, Idempotency_Key=key)


def read(path: ServingPath, profile: str, query: str = "", lane: str = "direct") -> dict:
    answer = path.ask("GET", f"/v1/profiles/{profile}/feed{query}", X_Lane=lane)
    assert (answer.status, answer.headers["x-lane"]) == (200, lane), answer
    assert answer.headers["content-type"] == "application/json"
    return answer.json


def test_messages_arrive_by_nudges_once_newest_first_on_both_lanes(path: ServingPath) -> None:
    assert post(path, "eva", "0", "k0").status == 404
    assert path.ask("PUT", "/v1/profiles/eva", b'{"name":"Eva"}').status == 204
    assert read(path, "eva") == read(path, "eva", lane="wsgi") == {"items": [], "next": None}
    sent = [post(path, "eva", f"text {i} åß\u0001", f"k{i}") for i in range(25)]
    assert {answer.status for answer in sent} == {201}
    assert post(path, "eva", "text 3 åß\u0001", "k3").body == sent[3].body
    assert post(path, "eva", "another", "k3").status == 422
    wait_until("all have arrived", lambda: len(read(path, "eva", "?limit=100")["items"]) == 25, 5)
    pages = {}
    for lane in ("direct", "wsgi"):
        first = read(path, "eva", lane=lane)
        second = read(path, "eva", f"?limit=5&before={first['next']}", lane)
        third = read(path, "eva", f"?before={second['next']}", lane)
        assert third == {"items": [], "next": None}
        assert first["items"] + second["items"] == [answer.json for answer in reversed(sent)]
        pages[lane] = first, second
    assert pages["direct"] == pages["wsgi"]
    head = path.ask("HEAD", "/v1/profiles/eva/feed")
    assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize("lane", ["direct", "wsgi"])
@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=-1", "limit"), ("limit=101", "limit"), ("limit=1&limit=2", "limit"), ("limit", "limit"), ("x=1", "x"),
     ("before=%2b", "before"), ("before=AAAAAAAAAAAAA-", "before"), ("limit=1&before=AAAAAAAAAAAAAA&x=1", "x")],
)  # fmt: skip
def test_a_bad_page_is_refused_on_both_lanes(path: ServingPath, lane: str, query: str, field: str) -> None:
    answer = path.ask("GET", f"/v1/profiles/eva/feed?{query}", X_Lane=lane)
    assert (answer.status, answer.json["field"]) == (400, field)


def test_a_bad_owner_of_a_feed_is_named(path: ServingPath) -> None:
    for name in ("-a", "x" * 65):
        answer = path.ask("GET", f"/v1/profiles/{name}/feed")
        assert (answer.status, answer.json["field"]) == (400, "id")


def test_a_page_of_the_largest_messages(path: ServingPath) -> None:
    assert path.ask("PUT", "/v1/profiles/big", b'{"name":"Big"}').status == 204
    text = "\u0001" * 1000  # six bytes each in JSON
    assert {post(path, "big", text, f"k{i}").status for i in range(101)} == {201}
    wait_until("all have arrived", lambda: len(read(path, "big", "?limit=100", "wsgi")["items"]) == 100, 5)
    assert read(path, "big", "?limit=100") == read(path, "big", "?limit=100", "wsgi")


def test_a_deleted_profile_has_no_feed(path: ServingPath) -> None:
    assert path.ask("PUT", "/v1/profiles/gone", b'{"name":"G"}').status == 204
    assert post(path, "gone", "1", "k").status == 201
    wait_until("it has arrived", lambda: len(read(path, "gone")["items"]) == 1, 5)
    assert path.ask("DELETE", "/v1/profiles/gone").status == 204
    wait_until("it is gone", lambda: read(path, "gone")["items"] == [], 5)


def test_a_feed_stops_when_it_is_told_and_its_successor_goes_on(path: ServingPath, tmp_path: Path) -> None:
    assert path.ask("PUT", "/v1/profiles/next", b'{"name":"N"}').status == 204
    process = path.processes[1]
    process.terminate()
    assert process.wait(3) == 0
    assert post(path, "next", "1", "k").status == 201
    path.start_feed()
    wait_until("it is consumed at the start", lambda: len(read(path, "next")["items"]) == 1, 5)
    keys = iter(range(100))

    def arrives() -> bool:
        before = len(read(path, "next")["items"])
        assert post(path, "next", "again", f"again{next(keys)}").status == 201
        time.sleep(0.3)
        return len(read(path, "next")["items"]) > before

    wait_until("the front's nudges find it again", arrives, 5)
