"""Bad input is found before any host is touched: one line, what and where, exit code 2."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploys import check, model
from tests.unit.clusters import cluster

ROOT = Path(__file__).resolve().parents[2]


def test_the_usual_cluster_is_good():
    assert check.problems(cluster()) == []


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (cluster(without=("app3",)), ["etcd", "2 members"]),
        (cluster(without=("fdb5",)), ["triple", "5 coordinators", "4"]),
        (cluster(store_engine="mongo"), ["mongo", "fdb, etcd, memory"]),
        (cluster(without=("metrics1",)), ["metrics", "0 hosts"]),
        (cluster(without=("proxy1", "proxy2")), ["proxies", "no host"]),
        (cluster(without=("metrics1",), also={"metrics": "proxy1"}), ["proxy1", "the board"]),
        (cluster(proxy_virtual_ip=""), ["proxy_virtual_ip"]),
        (cluster(proxy_virtual_ip="192.0.2.21"), ["192.0.2.21", "app1"]),
        (cluster(proxy_lane="fast"), ["proxy_lane", "fast"]),
        (cluster(store_workers=0), ["app1", "store_workers"]),
        (cluster(app_slots={"c": "current"}), ["slot", "'c'"]),
        (cluster(app_slots={"a": ""}), ["app_slots names no release"]),
        (cluster(metrics_promise_ms=30), ["metrics_promise_ms is 30", "25, 50"]),
        (cluster(fdb_process_classes=["storge"]), ["fdb1", "storge"]),
        (cluster(also={"spare": "fdb1"}), ["fdb1", "groups fdb and spare"]),
        (cluster(fdb_tls="yes"), ["fdb_tls", "'yes'"]),
        (cluster(fdb_procedure="minro"), ["fdb_procedure 'minro'", "auto, patch, minor"]),
    ],
)
def test_a_bad_cluster_is_named(bad, words):
    found = check.problems(bad)
    assert found
    assert all(word in found[0] for word in words), found


def test_two_hosts_with_one_address_are_named():
    names = {"apps": [("a", {"address": "192.0.2.1"}), ("b", {"address": "192.0.2.1"})]}
    found = check.problems(model.from_file(Path("prod.py"), names, {}))
    assert "192.0.2.1 belongs to a and b" in found[0]


def pyinfra(tmp_path, inventory: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run pyinfra on an inventory that must be refused: its hosts do not exist."""
    path = tmp_path / "prod.py"
    path.write_text(inventory)
    return subprocess.run(
        [Path(sys.executable).parent / "pyinfra", "-y", path, "deploys/all.py", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


INVENTORY = (ROOT / "inventory" / "prod.py").read_text()


@pytest.mark.parametrize(
    ("inventory", "arguments", "line"),
    [
        (INVENTORY.replace("load = []", "cache = []"), [], "unknown group cache"),
        (INVENTORY.replace("192.0.2.12", "192.0.2.11"), [], "belongs to proxy1 and proxy2"),
        (INVENTORY, ["--data", "store_engine=mongo"], "store_engine 'mongo' does not exist"),
        (INVENTORY, ["--data", "proxy_lnae=wsgi"], "proxy_lnae: no such key; proxy_lane?"),
        (INVENTORY, ["--data", "component=base,prxy"], "component=prxy: no such component; proxy?"),
        (INVENTORY, ["--data", "base_profile=low-latncy"], "profile 'low-latncy' is not in tuning/profiles"),
    ],
)
def test_pyinfra_stops_before_it_connects(tmp_path, inventory, arguments, line):
    done = pyinfra(tmp_path, inventory, *arguments)
    assert done.returncode == 2, done.stderr
    assert line in done.stderr
    assert "Connecting to hosts" not in done.stderr


def test_group_data_wins_as_in_pyinfra():
    lab = model.from_file(Path("lab.py"), {"apps": [("app1", {"front_workers": 7})]}, {"store_workers": 9})
    host = lab.hosts["app1"]
    assert host.data["store_workers"] == 9  # --data
    assert host.data["front_workers"] == 7  # the host's own
    assert host.data["cluster_name"] == "lab"  # the group named after the file
    assert host.data["store_port"] == 7000  # all.py
