"""The lab's hosts: booted, reached, taken away, brought back, and removed without a trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.lab import machine
from ops.lab.state import LabFiles
from tests.lab.conftest import LabUnderTest


@pytest.fixture(scope="module")
def hosts(make_lab: Callable[[str], LabUnderTest]) -> LabUnderTest:
    """A bare lab of its own, so that nothing here disturbs what is deployed elsewhere."""
    booted = make_lab("hosts")
    booted.griddle("up", "--bare", "--store", "etcd")
    return booted


def test_status_has_its_documented_shape(hosts: LabUnderTest) -> None:
    found = hosts.status()
    assert sorted(found) == ["hosts", "store", "virtual_ip"]
    assert found["store"] == "etcd"
    assert found["virtual_ip"] == hosts.plan.virtual_ip
    assert all(sorted(host) == ["address", "groups", "name", "state"] for host in found["hosts"])
    assert hosts.states() == dict.fromkeys(["proxy1", "proxy2", "app1", "app2", "app3", "metrics1"], "running")


def test_each_host_is_itself_and_boots_without_a_failed_unit(hosts: LabUnderTest) -> None:
    for host in hosts.plan.hosts:
        seen = hosts.ssh(host.name, "hostname; hostname -I; systemctl is-system-running --wait").stdout.split()
        assert seen == [host.name, host.address, "running"]


def test_hosts_reach_each_other_and_may_change_their_own_network(hosts: LabUnderTest) -> None:
    app1 = hosts.plan.host("app1")
    assert app1
    hosts.ssh("proxy1", f"timeout 5 bash -c '</dev/tcp/{app1.address}/22'")
    hosts.ssh("proxy1", "sudo sysctl -q net.core.somaxconn=4095")
    assert hosts.ssh("proxy1", "sudo sysctl -n net.core.somaxconn").stdout.strip() == "4095"
    assert hosts.ssh("app1", "sudo sysctl -n net.core.somaxconn").stdout.strip() != "4095"


def test_debian_packages_install_from_the_image(hosts: LabUnderTest) -> None:
    offline = "sudo unshare --net apt-get install -qq -y --no-install-recommends nftables"
    hosts.ssh("metrics1", f"{offline} && /usr/sbin/nft --version")


def test_stop_is_a_loss_of_power_and_start_brings_the_same_disk_back(hosts: LabUnderTest) -> None:
    hosts.ssh("app1", "echo kept >kept; echo lost >/dev/shm/lost")
    hosts.griddle("lab", "stop", "app1")
    assert hosts.states()["app1"] == "stopped"
    assert hosts.griddle("lab", "ssh", "app1", "true", check=False).returncode == 255
    hosts.griddle("lab", "start", "app1")
    assert hosts.states()["app1"] == "running"
    assert hosts.ssh("app1", "cat kept; ls /dev/shm").stdout == "kept\n"


def test_cut_takes_a_host_off_the_network_while_it_runs_on(hosts: LabUnderTest) -> None:
    boots = "cat /proc/sys/kernel/random/boot_id; systemctl show --property=UserspaceTimestampMonotonic"
    before = hosts.ssh("app2", boots).stdout
    hosts.griddle("lab", "cut", "app2")
    assert hosts.states()["app2"] == "cut"
    assert hosts.ssh("app2", "true", check=False).returncode == 255
    hosts.griddle("lab", "heal", "app2")
    assert hosts.states()["app2"] == "running"
    assert hosts.ssh("app2", boots).stdout == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("lab", "stop", "app9"), "no host app9"),
        (("up", "--store", "fdb"), "was made for the etcd store"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    hosts: LabUnderTest, arguments: tuple[str, ...], words: str
) -> None:
    done = hosts.griddle(*arguments, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_second_up_while_one_is_at_work_is_told_who_holds_the_lab(hosts: LabUnderTest) -> None:
    from ops.lab import state

    with state.locked(hosts.checkout, "up"):
        done = hosts.griddle("down", check=False)
    assert done.returncode == 1
    assert f"process {os.getpid()}" in done.stderr


def test_up_boots_only_what_does_not_run(hosts: LabUnderTest) -> None:
    hosts.griddle("lab", "stop", "app3")
    booted = hosts.griddle("up", "--bare").stderr
    assert "app3" in booted
    assert "app1" not in booted


def traces(checkout: Path, name: str) -> list[str]:
    """What is left on this machine of a checkout's lab."""
    found = [f"mounted: {point}" for point in machine.mounts(checkout)]
    found += [f"runs: {host}" for host in machine.running(LabFiles(checkout))]
    links = json.loads(subprocess.run(["ip", "-json", "link"], capture_output=True, check=True).stdout)
    found += [f"interface: {link['ifname']}" for link in links if name in link["ifname"]]
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    found += [f"nft: {line}" for line in rules.splitlines() if name in line]
    found += [f"cgroup: {path}" for path in Path("/sys/fs/cgroup").glob(f"**/griddle/{name}")]
    griddle = checkout / ".griddle"
    found += [f"file: {path}" for path in (griddle / "lab", griddle / "clusters/lab") if path.exists()]
    found += [f"nspawn: {path}" for path in Path("/run/systemd/nspawn").glob(f"*/{name}-*")]
    return found


def test_down_leaves_nothing_and_may_be_repeated(hosts: LabUnderTest) -> None:
    name = hosts.plan.name
    assert traces(hosts.checkout, name)
    hosts.griddle("down")
    assert traces(hosts.checkout, name) == []
    assert "there is no lab here" in hosts.griddle("down").stderr
    assert set(hosts.states().values()) == {"absent"}


@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.0, 1.5, 2.5])
def test_killed_anywhere_up_goes_on_and_down_leaves_nothing(hosts: LabUnderTest, seconds: float) -> None:
    process = subprocess.Popen(
        hosts.griddle_command("up", "--bare", "--store", "etcd"),
        cwd=hosts.checkout, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if seconds > 1:
        hosts.griddle("up", "--bare", "--store", "etcd")
        assert set(hosts.states().values()) == {"running"}
        name = hosts.plan.name
        (hosts.checkout / ".griddle/lab/lab.json").unlink()
    else:
        name = "no lab yet" if not LabFiles(hosts.checkout).description.exists() else hosts.plan.name
    hosts.griddle("down")
    assert traces(hosts.checkout, name) == []
