"""One table of requests, asked by both lanes through nginx: the same status, headers that matter, and document."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest

from tests.unit.serving import Answer, ServingPath, nginx_missing
from tests.unit.statsd import Daemon
from tests.unit.stores import wait_until

pytestmark = pytest.mark.skipif(nginx_missing() is not None, reason=str(nginx_missing()))
PROFILE = b'{"name":"Ada","age":36}'
ADA, NOBODY, FEED = "/v1/profiles/ada", "/v1/profiles/nobody", "/v1/profiles/ada/feed"
LONG_AGO = "Sun, 06 Nov 1994 08:49:37 GMT"
SAME = ("content-type", "etag", "allow", "retry-after", "x-release")

# What, where, with which headers (TAG is the profile's entity tag), and what comes of it.
PATHS = [
    (ADA, 200), (NOBODY, 404), ("/v1/profiles/", 400), ("/v1/profiles", 404), ("/v1//profiles///ada", 200),
    ("//v1/profiles/ada", 200), ("/v1/./profiles/ada", 200), ("/v1/x/../profiles/ada", 200),
    ("/v1/profiles/nobody/../ada", 200), ("/v1/profiles/ada/", 404), ("/v1/profiles/ada/.", 404),
    ("/v1/profiles/%61da", 200), ("/v1/profiles%2fada", 200), ("/v1/profiles/ada%2ffeed", 200),
    ("/v1/profiles/ada%2f%2e%2e%2fada", 200), ("/v1/profiles/ada%20", 400), ("/v1/profiles/ada%3fx", 400),
    ("/v1/profiles/ada%23x", 400), ("/v1/profiles/ada%25", 400), ("/v1/profiles/ada%0d%0aX-Lane:%20x", 400),
    ("/v1/profiles/ada#x", 200), ("/v1/profiles/\xe5", 400), ("/v1/profiles/%e5", 400),
    ("/v1/profiles/\xc3\xa5/feed", 400), ("/V1/profiles/ada", 404), ("/\xe5", 404), ("/nothing", 404),
    ("/../x", 400), ("/%zz", 400), ("/%00", 400), ("http://x/v1/profiles/ada", 200), ("*", 400),
    (ADA + "?x=1", 200), (ADA + "?\xe5=\xff", 200), (ADA + "?%zz", 200), (ADA + "?", 200), (FEED, 200),
    (FEED + "?limit=5", 200), (FEED + "?limit=0", 400), (FEED + "?limit=%35", 200), (FEED + "?limit=\xe5", 400),
    (FEED + "?limit=5&limit=6", 400), (FEED + "?before=x", 400), (FEED + "?other=1", 400), (FEED + "?limit", 400),
    ("/v1/profiles/ada/other", 404), ("/v1/profiles/ada/messages", 405), ("/v1/profiles/-/feed", 400),
]  # fmt: skip
CONDITIONS = [
    (ADA, {"If-Match": "TAG"}, 200), (ADA, {"If-Match": '"x", TAG'}, 200), (ADA, {"If-Match": "*"}, 200),
    (ADA, {"If-Match": '"x"'}, 412), (ADA, {"If-Match": "W/TAG"}, 412), (ADA, {"If-Match": "x"}, 400),
    (ADA, {"If-None-Match": "TAG"}, 304), (ADA, {"If-None-Match": "W/TAG"}, 304),
    (ADA, {"If-None-Match": "*"}, 304), (ADA, {"If-None-Match": '"x", TAG'}, 304),
    (ADA, {"If-None-Match": '"x"'}, 200), (ADA, {"If-None-Match": "x"}, 200),
    (ADA, {"If-Match": "TAG", "If-None-Match": "TAG"}, 304),
    (ADA, {"If-Match": '"x"', "If-None-Match": "TAG"}, 412),
    (ADA, {"If-Unmodified-Since": LONG_AGO}, 200), (ADA, {"If-Modified-Since": LONG_AGO}, 200),
    (ADA, {"If-Unmodified-Since": "x", "If-Match": '"x"'}, 412),
    (ADA, {"If-Modified-Since": LONG_AGO, "If-None-Match": "TAG"}, 304),
    (ADA, {"If-Range": "TAG", "Range": "bytes=0-3"}, 200), (ADA, {"Range": "bytes=900-"}, 200),
    (NOBODY, {"If-Match": "*"}, 404), (NOBODY, {"If-None-Match": "*"}, 404),
    (NOBODY, {"If-Unmodified-Since": "x"}, 404), (FEED, {"If-Unmodified-Since": LONG_AGO}, 200),
    (FEED, {"If-Match": '"x"'}, 412), (FEED, {"If-Match": "*"}, 200),
    (FEED, {"If-None-Match": "*"}, 304), (FEED, {"If-None-Match": '"x"'}, 200),
    ("/version", {"If-Unmodified-Since": LONG_AGO}, 200),
]  # fmt: skip
METHODS = [
    *((method, ADA, 501) for method in (
        "PURGE", "SEARCH", "NOTIFY", "QUERY", "PROPFIND", "MKCOL", "LOCK", "M-SEARCH", "FOO", "TRACE", "CONNECT",
    )),
    ("OPTIONS", ADA, 405), ("PATCH", ADA, 405), ("POST", ADA, 405), ("get", ADA, 400),
    ("DELETE", FEED, 405), ("PUT", "/version", 405), ("POST", "/healthz", 405), ("PURGE", "/version", 501),
    ("PURGE", "/v1/profiles/\xe5", 501), ("POST", "/v1/profiles/ada/messages", 400),
    ("OPTIONS", "/v1/profiles/\xe5", 400),
]  # fmt: skip
TABLE = [
    *(("GET", target, {}, status) for target, status in PATHS),
    *(("HEAD", target, {}, status) for target, status in PATHS),
    *((method, *row) for row in CONDITIONS for method in ("GET", "HEAD")),
    *((method, target, {"Content-Length": "0"}, status) for method, target, status in METHODS),
    ("GET", ADA, {"Content-Length": "4"}, 200), ("GET", ADA, {"Expect": "100-continue"}, 200),
    ("GET", ADA, {"Transfer-Encoding": "gzip"}, 501),
    ("GET", ADA, {"X-Long": "x" * 9000}, 431), ("GET", ADA, {"X-Odd": "\xe5\xff"}, 200),
    ("GET", ADA, {"Upgrade": "h2c", "Connection": "Upgrade, close"}, 200),
    ("GET", ADA, {f"X-{i}": "x" for i in range(900)}, 200),
]  # fmt: skip


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    made = Daemon()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, daemon: Daemon) -> Iterator[ServingPath]:
    serving = ServingPath(tmp_path_factory.mktemp("lanes"))
    serving.configuration["statsd"] = {"host": "127.0.0.1", "port": daemon.port}
    serving.start_store()
    serving.start_front()
    serving.start_nginx()
    yield serving
    serving.stop()


@pytest.fixture(scope="module")
def tag(path: ServingPath) -> str:
    return path.ask("PUT", ADA, PROFILE).headers["etag"]


def ask(path: ServingPath, lane: str, method: str, target: str, headers: dict[str, str]) -> Answer:
    """As it is written, byte for byte; nginx closes the connection."""
    lines = [f"{method} {target} HTTP/1.1", "Host: x", f"X-Lane: {lane}"]
    lines += [f"{name}: {value}" for name, value in ({"Connection": "close"} | headers).items()]
    body = "x" * int(headers.get("Content-Length", "0")) if len(headers.get("Content-Length", "")) < 3 else ""
    with socket.create_connection(("127.0.0.1", path.ports["nginx"]), timeout=10) as connection:
        connection.sendall("\r\n".join([*lines, "", body]).encode("latin-1"))
        said = b""
        while more := connection.recv(65536):
            said += more
    while True:  # a 100 comes before
        head, _, said = said.partition(b"\r\n\r\n")
        status, *fields = head.decode("latin-1").split("\r\n")
        if int(status.split()[1]) >= 200:
            break
    named = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
    return Answer(int(status.split()[1]), named, said)


def essence(answer: Answer) -> tuple:
    """What must not depend on the lane."""
    headers = {name: answer.headers[name] for name in SAME if name in answer.headers}
    if answer.headers.get("content-type") == "application/problem+json":
        return answer.status, headers, json.loads(answer.body) if answer.body else None
    return answer.status, headers, answer.body, answer.headers.get("content-length")


@pytest.mark.parametrize(("method", "target", "headers", "status"), TABLE)
def test_both_lanes_answer_alike(
    path: ServingPath, tag: str, method: str, target: str, headers: dict[str, str], status: int
) -> None:
    headers = {name: value.replace("TAG", tag) for name, value in headers.items()}
    direct, wsgi = (ask(path, lane, method, target, headers) for lane in ("direct", "wsgi"))
    assert essence(direct) == essence(wsgi)
    assert direct.status == status
    for answer in (direct, wsgi):
        assert "x-lane" in answer.headers
        if status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert method == "HEAD" or json.loads(answer.body)["status"] == status
        assert status != 405 or answer.headers["allow"]


def test_what_is_the_clients_fault_is_no_good_read(path: ServingPath, tag: str, daemon: Daemon) -> None:
    time.sleep(2.5)  # what the table's requests have counted is sent each second, what is new with the second time
    before = {name: daemon.total(name) for name in ("griddle.read_ms_count", "griddle.read_refused")}
    for lane in ("direct", "wsgi"):
        for method, headers, status in [
            ("GET", {"If-Match": '"x"'}, 412), ("GET", {"If-Match": "x"}, 400), ("GET", {}, 200),
            ("PURGE", {}, 501),
        ]:  # fmt: skip
            assert ask(path, lane, method, ADA, headers).status == status
        assert ask(path, lane, "GET", "/v1/profiles/-", {}).status == 400
    wait_until(
        "all is counted", lambda: daemon.total("griddle.read_refused") - before["griddle.read_refused"] >= 6, 5
    )
    assert daemon.total("griddle.read_ms_count") - before["griddle.read_ms_count"] == 2
