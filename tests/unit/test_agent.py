"""The agent against a real etcd: its file follows what etcd says, and outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w

from ops.process import die_with_parent
from services import agent
from tests.unit import stores
from tests.unit.stores import wait_until

ROOT = Path(__file__).resolve().parents[2]


class Cluster:
    """One etcd member, and one agent that follows it."""

    def __init__(self, directory: Path) -> None:
        self.etcd = stores.etcd(directory)
        self.file = directory / "control.json"
        config = directory / "griddle.toml"
        config.write_text(tomli_w.dumps({"etcd": {"endpoints": [f"http://127.0.0.1:{self.etcd.port}"]}}))
        self.environment = {**os.environ, "GRIDDLE_CONFIG": str(config), "GRIDDLE_CONTROL": str(self.file)}
        self.agent: subprocess.Popen | None = None

    def start(self) -> None:
        self.etcd.start()
        self.start_agent()

    def start_agent(self) -> None:
        self.agent = subprocess.Popen(
            [sys.executable, "-m", "services.agent"], cwd=ROOT, env=self.environment, preexec_fn=die_with_parent
        )

    def stop_agent(self) -> None:
        self.agent.send_signal(signal.SIGTERM)
        assert self.agent.wait(5) == 0

    def call(self, path: str, content: dict) -> dict:
        url = f"http://127.0.0.1:{self.etcd.port}/v3/{path}"
        with urllib.request.urlopen(url, json.dumps(content).encode(), timeout=5) as answer:
            return json.loads(answer.read())

    def put(self, key: str, value: str, **more: object) -> None:
        encoded = {"key": b64encode(key.encode()).decode(), "value": b64encode(value.encode()).decode()}
        self.call("kv/put", {**encoded, **more})

    def keys(self) -> dict:
        return json.loads(self.file.read_text())["keys"] if self.file.exists() else {}

    def await_keys(self, expected: dict, seconds: float = 5) -> None:
        wait_until(f"the file says {expected}", lambda: self.keys() == expected, seconds)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := stores.etcd_missing():
        pytest.skip(reason)
    made = Cluster(tmp_path_factory.mktemp("agent"))
    made.start()
    yield made
    made.agent.kill()
    made.agent.wait()
    made.etcd.stop()


def test_the_file_follows(cluster: Cluster) -> None:
    cluster.await_keys({})
    cluster.put("/griddle/flags/lane", '{"variant": "wsgi"}')
    cluster.put("/elsewhere", '"not ours"')
    cluster.await_keys({"flags/lane": {"variant": "wsgi"}})
    cluster.put("/griddle/flags/lane", "not JSON")
    cluster.await_keys({})
    cluster.put("/griddle/flags/lane", '{"variant": "direct"}')
    cluster.await_keys({"flags/lane": {"variant": "direct"}})
    assert cluster.file.stat().st_mode & 0o777 == 0o644


def test_an_announcement_ends_with_its_lease(cluster: Cluster) -> None:
    before = cluster.keys()
    lease = cluster.call("lease/grant", {"TTL": 2})["ID"]
    cluster.put("/griddle/operations/current", '{"wait_ms": 3000}', lease=lease)
    cluster.await_keys({**before, "operations/current": {"wait_ms": 3000}})
    cluster.await_keys(before, 10)


def test_what_was_known_last_outlives_etcd_and_the_agent(cluster: Cluster) -> None:
    cluster.put("/griddle/flags/kept", "true")
    wait_until("the flag is there", lambda: cluster.keys().get("flags/kept") is True)
    known = cluster.keys()
    cluster.etcd.stop()
    cluster.stop_agent()
    cluster.start_agent()
    wait_until("the agent runs", lambda: cluster.agent.poll() is None)
    assert cluster.keys() == known
    cluster.etcd.start()
    cluster.put("/griddle/flags/kept", "false")
    wait_until("it follows again", lambda: cluster.keys().get("flags/kept") is False, 15)


def test_what_hangs_on_a_lease_does_not_outlive_silence(cluster: Cluster) -> None:
    """Neither that of a member that is there and says nothing, nor over a restart of the agent."""

    def announced() -> bool:
        return cluster.keys().get("operations/current") is not None

    cluster.put("/griddle/flags/kept", "true")
    lease = cluster.call("lease/grant", {"TTL": 60})["ID"]
    cluster.put("/griddle/operations/current", '{"wait_ms": 3000}', lease=lease)
    wait_until("it is announced", announced)
    cluster.etcd.pause()
    silent_since = time.monotonic()
    try:
        time.sleep(11)
        cluster.stop_agent()
        cluster.start_agent()
        time.sleep(1)
        assert announced()
        wait_until("it is forgotten", lambda: not announced(), 20)
        assert time.monotonic() - silent_since < 15
        assert cluster.keys()["flags/kept"] is True
    finally:
        cluster.etcd.resume()
    wait_until("it follows again", announced, 20)
    cluster.call("lease/revoke", {"ID": lease})


def test_a_restarted_agent_knows_when_it_heard_last(tmp_path: Path) -> None:
    file = tmp_path / "control.json"
    key, flag = (b64encode(name).decode() for name in (b"/griddle/operations/current", b"/griddle/flags/a"))
    value = b64encode(b"1").decode()
    agent.Mirror(file).replace([{"key": key, "value": value, "lease": "7"}, {"key": flag, "value": value}], 5)
    said = json.loads(file.read_text())
    restarted = agent.Mirror(file)
    assert restarted.revision == 5
    assert 13 < restarted.forget_leased() <= agent.LEASED_SECONDS
    assert json.loads(file.read_text()) == said
    os.utime(file, (time.time() - 20,) * 2)
    agent.Mirror(file).forget_leased()
    assert json.loads(file.read_text()) == {"revision": 5, "keys": {"flags/a": 1}, "leased": []}
