"""The gate at the end of a deploy: both lanes, also where clients may not choose one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deploys.etcd import deploy as etcd
from deploys.smoke import deploy
from tests.unit import stores
from tests.unit.clusters import cluster
from tests.unit.serving import ServingPath

GOOD = "HTTP/1.1 404 Not Found\\r\\nX-Lane: direct\\r\\nX-Release: r-1\\r\\n\\r\\n"


@pytest.mark.parametrize("override", [True, False])
def test_both_lanes_are_asked_whether_or_not_clients_may_choose(
    monkeypatch: pytest.MonkeyPatch, override: bool
) -> None:
    hosts = cluster(proxy_virtual_ip="192.0.2.10", proxy_lane_override=override).hosts
    asked: list[str] = []
    monkeypatch.setattr(deploy.model, "this_host", lambda: hosts["proxy1"])
    monkeypatch.setattr(deploy.gates, "wait_until", lambda command, **_: asked.append(command))
    remembered: list[str] = []
    monkeypatch.setattr(deploy, "store_remembers", lambda url, **_: remembered.append(url))
    deploy.smoke()
    default, wsgi = asked  # a proxy alone is asked for no alarm of etcd's
    assert remembered == ["http://192.0.2.10:80/v1/profiles/griddle-smoke"]
    assert "http://192.0.2.10:80/v1/profiles/griddle-smoke" in default and "^X-Lane: direct" in default
    assert "http://192.0.2.10:80/readyz" in wsgi and "^X-Lane: wsgi" in wsgi


@pytest.mark.parametrize(
    ("answer", "good"),
    [
        (GOOD, True),
        (GOOD.replace("404 Not Found", "200 OK"), True),
        (GOOD.replace("404 Not Found", "503 Service Unavailable"), False),
        (GOOD.replace("direct", "wsgi"), False),
        (GOOD.replace("X-Release: r-1", "X-Release: "), False),
        ("", False),
    ],
)
def test_an_answer_is_judged_by_status_lane_and_release(tmp_path: Path, answer: str, good: bool) -> None:
    curl = tmp_path / "curl"
    curl.write_text(f"#!/bin/sh\nprintf '{answer}'\n")
    curl.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", deploy.probe("http://192.0.2.10/", "direct")], env=environment)
    assert (done.returncode == 0) == good


def test_an_alarm_is_seen_where_all_members_are_healthy(tmp_path: Path) -> None:
    if reason := stores.etcd_missing():
        pytest.skip(reason)
    server = stores.etcd(tmp_path)
    server.command.append(f"--quota-backend-bytes={2**20}")
    server.start()
    wrapper = tmp_path / "griddle-etcdctl"
    wrapper.write_text(f'#!/bin/sh\nETCDCTL_API=3 exec etcdctl --endpoints 127.0.0.1:{server.port} "$@"\n')
    wrapper.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def run(command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", command], env=environment, input=stdin, capture_output=True, text=True, timeout=30
        )

    try:
        stores.wait_until("it is healthy", lambda: run(etcd.HEALTHY).returncode == 0)
        assert run(etcd.NO_ALARM).returncode == 0
        for number in range(4):
            run(f"griddle-etcdctl put key{number}", "x" * 700_000)
        assert run(etcd.HEALTHY).returncode == 0
        seen = run(etcd.NO_ALARM)
        assert (seen.returncode, "alarm:NOSPACE" in seen.stdout) == (1, True)
        server.stop()
        assert run(etcd.NO_ALARM).returncode == 1
    finally:
        server.stop()


# --- whether it is the same store as before, asked of real services


def remembers(path: ServingPath, name: str, file: Path) -> subprocess.CompletedProcess[str]:
    url = f"http://127.0.0.1:{path.ports['front']}{deploy.PROBE}"
    return subprocess.run(["sh", "-c", deploy.remembers(url, name, str(file))], capture_output=True, text=True)


def test_a_store_that_has_forgotten_what_a_deploy_wrote_is_refused(tmp_path: Path) -> None:
    path, mine, other = ServingPath(tmp_path / "serving"), tmp_path / "proxy1", tmp_path / "proxy2"
    try:
        store = path.start_store()
        path.start_front()
        for file, name, said in (
            (mine, "smoke-1", "the store had nothing from an earlier deploy"),
            (mine, "smoke-2", "the store holds what an earlier deploy wrote"),
            (other, "smoke-3", "the store holds what an earlier deploy wrote"),
        ):
            done = remembers(path, name, file)
            assert done.returncode == 0 and said in done.stdout, done
        assert mine.read_text() == other.read_text() == "smoke-1\n"
        store.kill()
        store.wait()
        down = remembers(path, "smoke-4", mine)
        assert down.returncode == 1 and "503" in down.stdout
        path.start_store()  # of memory: another one, empty
        for _ in range(2):
            done = remembers(path, "smoke-5", mine)
            assert done.returncode == 1
            assert "it is another store, or an empty one" in done.stdout and f"rm {mine}" in done.stdout
        mine.unlink()
        assert "had nothing" in remembers(path, "smoke-6", mine).stdout
        assert "another store" in remembers(path, "smoke-7", other).stdout
    finally:
        path.stop()
