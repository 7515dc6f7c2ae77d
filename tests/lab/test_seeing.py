"""Load and profiles from outside, on the running cluster."""

import json
import xml.etree.ElementTree
from pathlib import Path

import pytest

from tests.lab.conftest import LabUnderTest


@pytest.fixture(scope="module", autouse=True)
def cluster(lab: LabUnderTest) -> None:
    lab.griddle("up")  # nothing, where other tests have left it serving


def test_reads_through_the_virtual_address_on_both_lanes(lab: LabUnderTest) -> None:
    # a machine that runs other tests promises nothing: this one waits for any answer
    load = ["bench", "read", "--rate", "60", "--lane", "both", "--duration", "4", "--p99-ms", "3000", "--json"]
    done = lab.griddle(*load, check=False)
    if done.returncode == 1 and "the generator was" in done.stderr:
        pytest.skip(f"this machine is too busy for a load: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for lane in ("direct", "wsgi"):
        assert found["lanes"][lane]["requests"] > 60
        assert found["lanes"][lane]["good_per_second"] > 0
    assert {"proxy", "front", "store"} <= set(found["cpu_us"])
    hosts = found["what"]["hosts"]
    assert set(hosts) == {host.name for host in lab.plan.hosts}
    assert hosts["proxy1"]["nginx"].startswith("1.")
    assert hosts["app1"]["release"].startswith("r-")
    assert hosts["app1"]["store_workers"] == 2


def test_a_flame_graph_of_a_process_at_work(lab: LabUnderTest, tmp_path: Path) -> None:
    out = tmp_path / "store.svg"
    before = lab.ssh("app1", "systemctl show -p MainPID griddle-store@a-1").stdout
    lab.griddle("profile", "app1", "--unit", "store", "--worker", "a-1", "--seconds", "2", "-o", str(out))
    assert xml.etree.ElementTree.parse(out).getroot().tag.endswith("svg")
    assert "services/" in out.read_text()
    assert lab.ssh("app1", "systemctl show -p MainPID griddle-store@a-1").stdout == before
    assert lab.ssh("app1", "ls -d /tmp/tmp.*", check=False).stdout == ""
