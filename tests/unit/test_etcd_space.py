"""etcd's quota: the store stops before it is used up, and what others write goes on; with a real, small etcd."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.config import Etcd
from services.engines import etcd_space
from services.engines.base import Full
from services.engines.etcd import EtcdEngine
from tests.unit import stores
from tests.unit.stores import Server

pytestmark = pytest.mark.skipif(stores.etcd_missing() is not None, reason=str(stores.etcd_missing()))

QUOTA = 48 * 2**20
VALUE = bytes(60_000)
MS = 5000


class Small:
    """A single member with a small quota, and an engine on it."""

    def __init__(self, directory: Path) -> None:
        self.server: Server = stores.etcd(directory)
        self.allow(QUOTA)
        self.engine = EtcdEngine(Etcd(endpoints=[f"http://127.0.0.1:{self.server.port}"]), 65_536)

    def allow(self, quota: int) -> None:
        """(Re)start it with another quota."""
        self.server.stop()
        self.server.command = [word for word in self.server.command if not word.startswith("--quota")]
        self.server.command.append(f"--quota-backend-bytes={quota}")
        self.server.start()

    def call(self, path: str, **content: object) -> dict:
        url = f"http://127.0.0.1:{self.server.port}/v3/{path}"
        request = urllib.request.Request(url, json.dumps(content).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def put(self, key: str, value: bytes = b"x") -> None:
        """As the agents and locks do: not through the store."""
        self.call("kv/put", key=b64encode(key.encode()).decode(), value=b64encode(value).decode())

    def ctl(self, *arguments: str) -> str:
        command = ["etcdctl", "--endpoints", f"127.0.0.1:{self.server.port}", *arguments]
        environment = {"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    def share(self) -> float:
        return int(self.call("maintenance/status")["dbSize"]) / QUOTA

    def make_room(self) -> None:
        revision = self.call("maintenance/status")["header"]["revision"]
        self.ctl("compact", revision)
        self.ctl("defrag")

    def fill(self) -> None:
        """One key again and again, until the store refuses it."""
        while self.share() < 0.6:
            self.put("fill", VALUE)
        for _ in range(QUOTA // len(VALUE)):
            self.engine.transact({}, {b"fill": VALUE}, MS)
            time.sleep(0.01)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    made = Small(tmp_path)
    try:
        stores.wait_until("it writes", lambda: writes(made))
        yield made
    finally:
        made.engine.close()
        made.server.stop()


def writes(small: Small) -> bool:
    try:
        return bool(small.engine.transact({}, {b"a": b"1"}, MS))
    except Exception:
        return False


def test_the_store_stops_before_the_quota_and_what_others_write_goes_on(small: Small) -> None:
    with pytest.raises(Full, match=r"etcd on 127\.0\.0\.1 uses 9\d% of its quota: nothing is written until"):
        small.fill()
    assert 0.94 < small.share() < 1
    with pytest.raises(Full):
        small.engine.check_writable()
    for number in range(20):
        small.put(f"/griddle/lock{number}")
    assert not small.call("maintenance/status").get("errors")
    assert small.engine.get_many([b"a"], MS)[0] is not None
    small.engine.transact({}, {b"a": None}, MS)  # what only deletes makes room
    small.make_room()
    stores.wait_until("writes go on", lambda: writes(small))
    small.engine.check_writable()


def test_a_raised_quota_is_known_without_a_restart_of_the_store(small: Small) -> None:
    with pytest.raises(Full):
        small.fill()
    small.allow(2 * QUOTA)
    stores.wait_until("writes go on", lambda: writes(small), 30)


def test_an_alarm_that_is_up_is_said_and_a_raised_quota_alone_does_not_help(small: Small) -> None:
    small.engine._space.end()  # as if it had not looked in time
    small.engine._space.join(5)
    with pytest.raises(urllib.error.HTTPError):
        for _ in range(2 * QUOTA // len(VALUE)):
            small.put("fill", VALUE)
    with pytest.raises(Full, match="database space exceeded"):
        small.engine.transact({}, {b"b": b"1"}, MS)
    small.allow(2 * QUOTA)
    other = EtcdEngine(Etcd(endpoints=[f"http://127.0.0.1:{small.server.port}"]), 65_536)
    try:
        stores.wait_until("it is seen", lambda: other._space.problem)
        with pytest.raises(Full, match="alarm NOSPACE"):
            other.transact({}, {b"b": b"1"}, MS)
        small.ctl("alarm", "disarm")
        stores.wait_until("writes go on", lambda: writes(small) and not other._space.problem)
    finally:
        other.close()


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        ({"dbSize": "94"}, ""),
        ({"dbSize": "95"}, "etcd on app1 uses 95% of its quota"),
        ({"dbSize": "10", "errors": ["memberID:1 alarm:NOSPACE "]}, "alarm NOSPACE"),
        ({"dbSize": "10", "errors": ["etcdserver: no leader"]}, ""),
        ({}, ""),
    ],
)
def test_what_a_member_says_of_itself(status: dict, problem: str) -> None:
    assert problem in etcd_space.problem_of("app1", status, 100)
    assert bool(problem) == bool(etcd_space.problem_of("app1", status, 100))


@pytest.mark.parametrize(
    ("before", "share", "seconds"),
    [(0.5, 0.5, 2.0), (0.5, 0.4, 2.0), (0.5, 0.51, 2.0), (0.5, 0.7, 0.3125), (0.8, 0.94, 0.1), (0.9, 0.97, 0.1)],
)
def test_the_faster_it_fills_the_sooner_it_is_looked_again(before: float, share: float, seconds: float) -> None:
    assert etcd_space.pause_of(before, share, 1) == pytest.approx(seconds)


def test_where_the_quota_is_unknown_only_the_alarm_counts() -> None:
    assert etcd_space.problem_of("app1", {"dbSize": "1000"}, 0) == ""
