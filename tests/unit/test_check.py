"""Bad input is found before any host is touched: one line, what and where, exit code 2."""

import dataclasses
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import check, model
from tests.unit.clusters import cluster

ROOT = Path(__file__).resolve().parents[2]


PLAIN = "blobstore://key@s3/backup?bucket=b&region=r&sc=0"


def differing(**own) -> model.Cluster:
    """The usual cluster; proxy2 has data of its own."""
    usual = cluster()
    proxy2 = usual.hosts["proxy2"]
    return model.Cluster(
        {**usual.hosts, "proxy2": dataclasses.replace(proxy2, data={**proxy2.data, **own})}, usual.data
    )


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
        (cluster(store_workers=0), ["--data", "store_workers is 0"]),
        (cluster(app_slots={"c": "current"}), ["slot", "'c'"]),
        (cluster(app_slots={"a": ""}), ["app_slots names no release"]),
        (cluster(fdb_backup_url="/var/backup"), ["fdb_backup_url", "file:///DIRECTORY"]),
        (cluster(fdb_backup_agents=0), ["fdb_backup_agents is 0"]),
        (cluster(fdb_version="7.3"), ["fdb_version is '7.3'", "7.3.77"]),
        # good alone, not together
        (cluster(front_port=7101), ["app1", "port 7101", "store_port (slot b, worker 1)", "front_port"]),
        (cluster(store_port=2300, store_workers=90), ["app1", "2379", "etcd_client_port", "store_port"]),
        (cluster(metrics_board_port=8428), ["metrics1", "8428", "metrics_http_port and by metrics_board_port"]),
        (cluster(proxy_port=22), ["proxy1", "port 22", "ssh"]),
        (cluster(ssh_port=8003), ["app1", "port 8003", "ssh"]),
        (cluster(fdb_port=4690, without=("metrics1",), also={"metrics": "fdb1"}), ["fdb1", "4690", "verify"]),
        (cluster(front_port=65500), ["app1", "port 65600", "does not exist"]),
        (cluster(store_port=20000), ["app1", "port 20000", "outgoing", "15000 to 60999"]),
        (cluster(front_backlog=5000), ["front_backlog is 5000", "4096"]),
        (cluster(proxy_deadline_ms=20), ["proxy_deadline_ms is 20", "25 ms"]),
        (cluster(etcd_election_ms=499), ["etcd_election_ms is 499", "500"]),
        (cluster(fdb_cache_memory="8GiB"), ["fdb1", "fdb_cache_memory is 8GiB", "fdb_memory, 8GiB"]),
        (
            cluster(fdb_backup_snapshot_seconds=8 * 86400),
            ["fdb_backup_snapshot_seconds", "fdb_backup_keep_days, 7"],
        ),
        (cluster(fdb_backup_url=PLAIN), ["the account key@s3", "fdb_backup_credentials no file"]),
        (
            cluster(fdb_backup_url=PLAIN.replace("&sc=0", ""), fdb_backup_credentials="c"),
            ["over TLS", "fdb_backup_ca names no file"],
        ),
        (differing(proxy_port=81), ["proxy_port is the cluster's", "80 on proxy1", "81 on proxy2"]),
        (cluster(metrics_promise_ms=30), ["metrics_promise_ms is 30", "25, 50"]),
        (cluster(fdb_process_classes=["storge"]), ["fdb_process_classes[0]", "storge"]),
        (cluster(also={"spare": "fdb1"}), ["fdb1", "groups fdb and spare"]),
        (cluster(fdb_tls="yes"), ["fdb_tls", "'yes'"]),
        (cluster(fdb_procedure="minro"), ["fdb_procedure is 'minro'", "auto, patch, minor"]),
    ],
)
def test_a_bad_cluster_is_named(bad, words):
    found = check.problems(bad)
    assert found
    assert all(word in found[0] for word in words), found


def test_ports_of_another_slot_or_host_do_not_collide():
    """Hosts of their own, or ports that only touch."""
    assert check.problems(cluster(front_port=7200)) == []
    assert check.problems(cluster(metrics_board_port=7000)) == []


@pytest.mark.parametrize(
    "small",
    [
        cluster(without=("proxy2",)),
        cluster(without=("app2", "app3")),
        cluster(without=("proxy2", "app2", "app3")),
        cluster(without=("fdb4", "fdb5"), fdb_redundancy="double"),
        cluster(without=("fdb2", "fdb3", "fdb4", "fdb5"), fdb_redundancy="single"),
    ],
)
def test_small_clusters_are_good(small):
    assert check.problems(small) == []


def test_two_hosts_with_one_address_are_named():
    names = {"apps": [("a", {"address": "192.0.2.1"}), ("b", {"address": "192.0.2.1"})]}
    found = check.problems(model.from_file(Path("prod.py"), names, {}))
    assert "192.0.2.1 belongs to a and b" in found[0]


def pyinfra(tmp_path, inventory: str, *arguments: str, deploy: str = "all") -> subprocess.CompletedProcess:
    """Run pyinfra on an inventory that must be refused: its hosts do not exist."""
    path = tmp_path / "prod.py"
    path.write_text(inventory)
    return subprocess.run(
        [Path(sys.executable).parent / "pyinfra", "-y", path, f"deploys/{deploy}.py", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


INVENTORY = (ROOT / "inventory" / "prod.py").read_text()


@pytest.mark.parametrize(
    ("inventory", "arguments", "line"),
    [
        (INVENTORY.replace("load = []", "cache = []"), [], "unknown group cache"),
        (INVENTORY.replace("192.0.2.12", "192.0.2.11"), [], "belongs to proxy1 and proxy2"),
        (INVENTORY, ["--data", "store_engine=mongo"], "--data: store_engine is 'mongo'; one of fdb, etcd, memory"),
        (INVENTORY, ["--data", "proxy_lnae=wsgi"], "proxy_lnae: no such key; proxy_lane?"),
        (INVENTORY, ["--data", "component=base,prxy"], "component=prxy: no such component; proxy?"),
        (INVENTORY, ["--data", "component="], "--data component=: no component is named"),
        (INVENTORY, ["--data", "component"], "--data component: key=value is needed"),
        (INVENTORY, ["--data", "base_profile=low-latncy"], "profile 'low-latncy' is not in tuning/profiles"),
    ],
)
def test_pyinfra_stops_before_it_connects(tmp_path, inventory, arguments, line):
    done = pyinfra(tmp_path, inventory, *arguments)
    assert done.returncode == 2, done.stderr
    assert line in done.stderr
    assert "Connecting to hosts" not in done.stderr


@pytest.mark.parametrize("deploy", ["fdb_upgrade", "fdb_status"])
def test_an_operation_on_foundationdb_needs_one(tmp_path, deploy):
    without = re.sub(r"^fdb = \[.*?^\]", "fdb = []", INVENTORY, flags=re.M | re.S)
    assert without != INVENTORY
    done = pyinfra(tmp_path, without, "--data", "store_engine=etcd", deploy=deploy)
    assert done.returncode == 2 and "Connecting to hosts" not in done.stderr
    assert f"griddle: deploys/{deploy}.py: group fdb of the inventory is empty" in done.stderr


def test_an_interrupted_run_ends_as_interrupted(tmp_path):
    """Not with 0, as if it had been done."""
    path = tmp_path / "prod.py"
    path.write_text(INVENTORY.replace('{"address"', '{"ssh_hostname": "127.86.0.1", "ssh_port": 2222, "address"'))
    with socket.create_server(("127.86.0.1", 2222), backlog=64):  # it never says anything
        command = [Path(sys.executable).parent / "pyinfra", "-y", path, "deploys/fdb_status.py"]
        command += ["--data", "proxy_virtual_ip=192.0.2.10"]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as run:
            while "Connecting to hosts" not in (line := run.stderr.readline()):
                assert line
            run.send_signal(signal.SIGINT)
            said = run.communicate(timeout=60)[1]
    assert run.returncode == 130 and "griddle: interrupted" in said and "Traceback" not in said


def test_group_data_wins_as_in_pyinfra():
    lab = model.from_file(Path("lab.py"), {"apps": [("app1", {"front_workers": 7})]}, {"store_workers": 9})
    host = lab.hosts["app1"]
    assert host.data["store_workers"] == 9  # --data
    assert host.data["front_workers"] == 7  # the host's own
    assert host.data["cluster_name"] == "lab"  # the group named after the file
    assert host.data["store_port"] == 7000  # all.py


def test_every_component_is_registered() -> None:
    """One that is not has no keys, and `--data component=` does not know it."""
    assert {*check.COMPONENTS} == {path.parent.name for path in (ROOT / "deploys").glob("*/deploy.py")}
