"""While an operation on the store is announced, requests wait for it, up to a bound, instead of failing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.control import Control, wait_ms
from tests.unit import stores
from tests.unit.serving import Answer, ServingPath, nginx_missing, serving
from tests.unit.stores import wait_until

needs_nginx = pytest.mark.skipif(nginx_missing() is not None, reason=str(nginx_missing()))
MESSAGE = b'{"from":"bob","text":"hello"}'
BODY = b'{"name":"Ada"}'
AWAY_SECONDS = 1.6  # a read's usual deadline is 0.25 s
WAITING_LIMIT = 3
LOOKED_SECONDS = 0.5  # nginx and the workers look five times a second


def announce(path: Path, started: str = "2026-01-01T00:00:00+00:00", wait: int = 3000) -> None:
    operation = {"operation": "fdb upgrade 7.3.78", "started": started, "wait_ms": wait}
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"revision": 1, "keys": {"operations/current": operation}}))
    fresh.replace(path)
    time.sleep(LOOKED_SECONDS)


@pytest.fixture(scope="module", params=["etcd", "fdb"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ServingPath, stores.Server]]:
    directory = tmp_path_factory.mktemp(request.param)
    with serving(request.param, directory, workers=2, proxy={"waiting_limit": WAITING_LIMIT}) as path_and_database:
        yield path_and_database


def asked_while_away(database: stores.Server, questions: list[Callable[[], Answer]]) -> list[tuple[int, float]]:
    """Status and seconds of each, all asked at once of a database that stands still for AWAY_SECONDS."""

    def timed(question: Callable[[], Answer]) -> tuple[int, float]:
        started = time.monotonic()
        return question().status, time.monotonic() - started

    database.pause()
    threading.Timer(AWAY_SECONDS, database.resume).start()
    with ThreadPoolExecutor(len(questions)) as pool:
        return list(pool.map(timed, questions))


@needs_nginx
def test_reads_and_writes_of_both_lanes_wait(served: tuple[ServingPath, stores.Server]) -> None:
    path, database = served
    assert path.ask("PUT", "/v1/profiles/ada", BODY).status == 204
    announce(path.control)
    try:
        seen = asked_while_away(
            database,
            [
                lambda: path.ask("GET", "/v1/profiles/ada", X_Lane="direct"),
                lambda: path.ask("GET", "/v1/profiles/ada/feed", X_Lane="direct"),
                lambda: path.ask("GET", "/v1/profiles/ada", X_Lane="wsgi"),
                lambda: path.ask("PUT", "/v1/profiles/ada", BODY),
                lambda: path.ask("POST", "/v1/profiles/ada/messages", MESSAGE, Idempotency_Key="k1"),
            ],
        )
        assert [status for status, _ in seen] == [200, 200, 200, 204, 201], seen
        assert max(seconds for _, seconds in seen) > AWAY_SECONDS - 0.3
        waits = path.ask("GET", "/waits").json
        assert waits["failed"] == 0 and waits["waited"] >= 3
        assert AWAY_SECONDS * 1000 - 300 < waits["longest_ms"] < 3500
    finally:
        path.control.unlink()
        time.sleep(LOOKED_SECONDS)


@needs_nginx
def test_without_an_announcement_nothing_waits(served: tuple[ServingPath, stores.Server]) -> None:
    path, database = served
    asked = [lambda lane=lane: path.ask("GET", "/v1/profiles/ada", X_Lane=lane) for lane in ("direct", "wsgi")]
    seen = asked_while_away(database, asked)
    assert [status for status, _ in seen] == [503, 503] and max(seconds for _, seconds in seen) < 1.0
    wait_until("it serves again", lambda: path.ask("GET", "/v1/profiles/ada").status == 200, 30)


@needs_nginx
def test_no_more_requests_wait_than_may(served: tuple[ServingPath, stores.Server]) -> None:
    path, database = served
    wait_until("it serves", lambda: path.ask("GET", "/v1/profiles/ada").status == 200, 30)
    announce(path.control, "2026-01-01T00:00:01+00:00")
    try:
        question = lambda: path.ask("GET", "/v1/profiles/ada", X_Lane="direct")  # noqa: E731
        seen = asked_while_away(database, [question] * (WAITING_LIMIT + 4))
        waited = [seconds for status, seconds in seen if status == 200]
        refused = [seconds for status, seconds in seen if status == 503]
        assert (len(waited), len(refused)) == (WAITING_LIMIT, 4), seen
        assert max(refused) < 1.0 < min(waited)
    finally:
        path.control.unlink()
        time.sleep(LOOKED_SECONDS)


@needs_nginx
def test_waiting_ends(served: tuple[ServingPath, stores.Server]) -> None:
    path, database = served
    wait_until("it serves", lambda: path.ask("GET", "/v1/profiles/ada").status == 200, 30)
    announce(path.control, "2026-01-01T00:00:02+00:00", wait=600)
    try:
        ((status, seconds),) = asked_while_away(database, [lambda: path.ask("GET", "/v1/profiles/ada")])
        assert status == 503 and 0.5 < seconds < 1.3
    finally:
        path.control.unlink()
        time.sleep(max(LOOKED_SECONDS, AWAY_SECONDS))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, 0),
        ({"operations/current": {"wait_ms": 3000}}, 3000),
        ({"operations/current": {"wait_ms": 10**9}}, 10_000),
        ({"operations/current": {"wait_ms": -1}}, 0),
        ({"operations/current": {"wait_ms": True}}, 0),
        ({"operations/current": {}}, 0),
        ({"operations/current": "fdb upgrade"}, 0),
    ],
)
def test_how_long_an_announcement_lets_wait(keys: dict, expected: int) -> None:
    assert wait_ms(keys) == expected


def test_a_file_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "control.json"
    control = Control(file)
    control.look()
    assert control.wait_ms == 0
    announce(file)
    control.look()
    assert control.wait_ms == 3000
    file.write_text('{"revision": 2, "keys"')
    control.look()
    assert control.wait_ms == 3000
    file.unlink()
    control.look()
    assert control.wait_ms == 0
