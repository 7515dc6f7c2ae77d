"""FoundationDB on real hosts, looked at by fdbcli: laid out, reconfigured, and with hosts lost. What the tests
write stays where an apply, a bounce or a loss of power must leave it.
"""

import json
import shlex
import time
from typing import Any

import pytest

from deploys.foundationdb import config, facts
from deploys.foundationdb.status import Limits, judge
from tests.lab.conftest import HANGS_SECONDS, LabUnderTest

APPLY = ["-y", "inventory/lab.py", "deploys/all.py", "--data"]
CLIENTS = ["app1", "app2", "app3"]
SERVERS = ["fdb1", "fdb2", "fdb3", "fdb4", "fdb5"]
HEALTHY = Limits(replicas=3, zone_failures=2, configuration=("triple", "ssd"))


@pytest.fixture(scope="module", autouse=True)
def database(lab: LabUnderTest) -> None:
    if lab.status()["store"] != "fdb":
        pytest.skip("FoundationDB's packages cannot be had here, so the lab has no FoundationDB hosts")
    lab.pyinfra(*APPLY, "component=base,firewall,foundationdb")


def fdbcli(lab: LabUnderTest, commands: str, host: str = "fdb1", seconds: int = 60) -> str:
    return lab.ssh(
        host,
        f"sudo sh -c {shlex.quote(facts.fdbcli(commands, seconds=seconds))}",
        check=False,
    ).stdout


def status(lab: LabUnderTest) -> dict[str, Any]:
    return json.loads(fdbcli(lab, "status json", seconds=40))


def get(lab: LabUnderTest, key: str) -> str:
    return fdbcli(lab, f"get {key}")


def put(lab: LabUnderTest, key: str, value: str) -> None:
    assert "Committed" in fdbcli(lab, f"writemode on; set {key} {value}")


def await_health(lab: LabUnderTest, seconds: float = 2 * HANGS_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not (health := judge(status(lab), HEALTHY)).ok:
        assert time.monotonic() < end, health
        time.sleep(0.5)


def test_one_machine_is_one_zone_and_all_are_coordinators(lab: LabUnderTest) -> None:
    cluster = status(lab)["cluster"]
    assert sorted(each["locality"]["zoneid"] for each in cluster["processes"].values()) == SERVERS
    assert cluster["configuration"]["coordinators_count"] == 5
    assert cluster["configuration"]["redundancy_mode"] == "triple"
    assert judge(status(lab), HEALTHY).ok


def test_its_files_belong_to_whom_they_should(lab: LabUnderTest) -> None:
    seen = lab.ssh("fdb3", f"stat -c '%U %a' {config.CLUSTER_FILE} {config.SEED} {config.DATA}/data").stdout
    assert seen.split("\n")[:3] == ["foundationdb 664", "root 644", "foundationdb 700"]
    assert lab.ssh("fdb3", "ps -o user= -C fdbserver").stdout.split() == ["foundationdb"]
    assert lab.ssh("app1", f"stat -c '%U %a' {config.CLIENT_CLUSTER_FILE}").stdout.strip() == "griddle 664"


def test_every_host_has_the_same_cluster_file(lab: LabUnderTest) -> None:
    servers = {lab.ssh(host, f"grep -v ^# {config.CLUSTER_FILE}").stdout for host in SERVERS}
    clients = {
        lab.ssh(host, f"grep -v ^# {config.CLIENT_CLUSTER_FILE}").stdout for host in ("app1", "app2", "app3")
    }
    assert len(servers | clients) == 1


def test_a_changed_parameter_is_in_force_after_an_apply(lab: LabUnderTest) -> None:
    put(lab, "before", "the-bounce")
    values = lab.checkout / "inventory" / "group_data" / "lab.py"
    original = values.read_text()
    values.write_text(f'{original}fdb_cache_memory = "144MiB"\n')
    try:
        lab.pyinfra(*APPLY, "component=foundationdb")
    finally:
        values.write_text(original)
    lines = [each["command_line"] for each in status(lab)["cluster"]["processes"].values()]
    assert len(lines) == 5 and all("--cache-memory=144MiB" in line for line in lines)
    assert "the-bounce" in get(lab, "before")


def test_two_hosts_may_lose_power_the_third_is_one_too_many_and_with_all_nothing_is_lost(
    lab: LabUnderTest,
) -> None:
    """In one go, because coming back takes longest. Without three of them the status says what it can."""
    try:
        lab.griddle("lab", "stop", "fdb4", "fdb5")
        put(lab, "last", "acknowledged")
        lab.griddle("lab", "stop", "fdb3")
        done = lab.griddle("fdb", "status", "--json", check=False)
        seen = json.loads(done.stdout)
        assert done.returncode == 1 and not seen["available"]
        assert seen["unreachable_hosts"] == ["fdb3", "fdb4", "fdb5"]
        assert [each["reachable"] for each in seen["coordinators"]].count(True) == 2
        assert seen["hosts"]["fdb1"]["running"] == [seen["hosts"]["fdb1"]["current"]]
        lab.griddle("lab", "stop", "fdb1", "fdb2")
    finally:
        lab.griddle("lab", "start", *SERVERS)
    await_health(lab)
    assert "acknowledged" in get(lab, "last") and "the-bounce" in get(lab, "before")


def test_an_apply_afterwards_goes_back_to_the_inventorys_parameters(lab: LabUnderTest) -> None:
    lab.pyinfra(*APPLY, "component=foundationdb")
    lines = [each["command_line"] for each in status(lab)["cluster"]["processes"].values()]
    assert not any("--cache-memory=144MiB" in line for line in lines)
    assert "acknowledged" in get(lab, "last")
