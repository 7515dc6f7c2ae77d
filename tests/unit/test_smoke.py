"""The gate at the end of a deploy: both lanes, also where clients may not choose one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deploys import smoke
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
    default, wsgi = asked
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
