"""The database is away: every lane answers 503 in time, and serves again by itself when it is back."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.unit import stores
from tests.unit.serving import ServingPath, nginx_missing, serving
from tests.unit.stores import wait_until

pytestmark = pytest.mark.skipif(nginx_missing() is not None, reason=str(nginx_missing()))
READ_SECONDS = 1.0  # a deadline of 250 ms, and what a loaded machine adds
WRITE_SECONDS = 6.0  # a deadline of 5 s
BODY = b'{"name":"Ada"}'


@pytest.fixture(scope="module", params=["etcd", "fdb"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ServingPath, stores.Server]]:
    with serving(request.param, tmp_path_factory.mktemp(request.param)) as path_and_database:
        yield path_and_database


@pytest.mark.parametrize("how", ["paused", "killed"])
def test_a_database_that_is_away_is_503_in_time_and_found_again(
    served: tuple[ServingPath, stores.Server], how: str
) -> None:
    path, database = served
    assert path.ask("PUT", "/v1/profiles/ada", BODY).status == 204
    if how == "paused":
        database.pause()
    else:
        time.sleep(2)  # restarted at once, fdbserver finds its address in use
        database.stop()
    try:
        for method, target, lane, limit in [
            ("GET", "/v1/profiles/ada", "direct", READ_SECONDS), ("GET", "/v1/profiles/ada", "wsgi", READ_SECONDS),
            ("GET", "/v1/profiles/ada/feed", "direct", READ_SECONDS), ("GET", "/readyz", "wsgi", READ_SECONDS),
            ("PUT", "/v1/profiles/ada", "wsgi", WRITE_SECONDS),
        ]:  # fmt: skip
            started = time.monotonic()
            answer = path.ask(method, target, BODY if method == "PUT" else None, X_Lane=lane)
            assert time.monotonic() - started < limit, (method, target, lane)
            assert (answer.status, answer.headers.get("retry-after")) == (503, "1"), (target, lane, answer)
            assert answer.headers["content-type"] == "application/problem+json"
        assert path.ask("GET", "/healthz").status == 200
    finally:
        if how == "paused":
            database.resume()
        else:
            time.sleep(2)
            database.start()
    for lane in ("direct", "wsgi"):
        wait_until(
            f"the {lane} lane serves again",
            lambda lane=lane: path.ask("GET", "/v1/profiles/ada", X_Lane=lane).status == 200, 30,
        )  # fmt: skip
    wait_until("writes are done again", lambda: path.ask("PUT", "/v1/profiles/ada", BODY).status == 204, 30)
    assert all(process.poll() is None for process in path.processes)
