"""The gate at the end of a deploy: both lanes, also where clients may not choose one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deploys import smoke
from deploys.etcd import deploy as etcd
from tests.unit import stores
from tests.unit.clusters import cluster

GOOD = "HTTP/1.1 404 Not Found\\r\\nX-Lane: direct\\r\\nX-Release: r-1\\r\\n\\r\\n"


@pytest.mark.parametrize("override", [True, False])
def test_both_lanes_are_asked_whether_or_not_clients_may_choose(
    monkeypatch: pytest.MonkeyPatch, override: bool
) -> None:
    hosts = cluster(proxy_virtual_ip="192.0.2.10", proxy_lane_override=override).hosts
    asked: list[str] = []
    monkeypatch.setattr(smoke.model, "this_host", lambda: hosts["proxy1"])
    monkeypatch.setattr(smoke.gates, "wait_until", lambda command, **_: asked.append(command))
    smoke.smoke()
    default, wsgi = asked  # a proxy alone is asked for no alarm of etcd's
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
    done = subprocess.run(["sh", "-c", smoke.probe("http://192.0.2.10/", "direct")], env=environment)
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
