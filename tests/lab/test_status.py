"""`griddle status` and the marks, on the running cluster, with a host without power."""

import json
import time
import urllib.request
from typing import Any

import pytest

from tests.lab.conftest import HANGS_SECONDS, LabUnderTest

READS = 50


@pytest.fixture(scope="module", autouse=True)
def cluster(lab: LabUnderTest) -> None:
    lab.griddle("up")  # nothing, where other tests have left it serving


def read(lab: LabUnderTest, lane: str) -> None:
    url = f"http://{lab.plan.virtual_ip}/v1/profiles/p1"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"X-Lane": lane}), timeout=30) as answer:
        answer.read()


def status(lab: LabUnderTest) -> dict[str, Any]:
    return json.loads(lab.griddle("status", "--json", "--wait", "30").stdout)


def test_what_the_cluster_does_is_on_one_screen(lab: LabUnderTest) -> None:
    deadline = time.monotonic() + HANGS_SECONDS
    while True:
        for _ in range(READS):
            read(lab, "direct")
            read(lab, "wsgi")
        seen = status(lab)
        gates = seen["gates"]["foundationdb"]
        if (seen["promise"]["now"]["reads_per_second"] or 0) > 0 and (gates or seen["store"] != "fdb"):
            break
        assert time.monotonic() < deadline, seen
        time.sleep(1)
    assert seen["metrics_problem"] is None
    assert {host["state"] for host in seen["hosts"]} == {"up"}
    assert seen["promise"]["now"]["p99_ms"] > 0 and 0 < seen["promise"]["hour"]["within"] <= 1
    (release,) = seen["releases"]
    assert release["release"].startswith("r-") and release["workers"] == {"feed": 3, "front": 6, "store": 6}
    assert sum(seen["versions"]["etcd"].values()) == seen["gates"]["etcd_with_leader"] == 3
    if seen["store"] == "fdb":
        assert seen["gates"]["foundationdb_up"] is True and all(gates.values()), gates
        assert sum(seen["versions"]["foundationdb"].values()) == 5
    assert any(mark["kind"] == "deploy" and mark["outcome"] == "done" for mark in seen["marks"])
    assert max(map(len, lab.griddle("status", "--wait", "30").stdout.splitlines())) <= 80


def test_a_host_that_is_down_is_said_so(lab: LabUnderTest) -> None:
    lab.griddle("lab", "stop", "app2")
    try:
        deadline = time.monotonic() + HANGS_SECONDS
        while True:
            seen = status(lab)
            states = {host["name"]: host["state"] for host in seen["hosts"]}
            others = {state for name, state in states.items() if name != "app2"}
            if states["app2"] == "down" and others == {"up"} and seen["gates"]["etcd_with_leader"] == 2:
                break
            assert time.monotonic() < deadline, seen
            time.sleep(1)
    finally:
        lab.griddle("lab", "start", "app2")
