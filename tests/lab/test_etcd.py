"""etcd's members on the running cluster: what an apply must not do, and the commands that do it, with clients that
read and write through the virtual address.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.lab.clients import clients, lost
from tests.lab.conftest import LabUnderTest, report

APPLY = ("-y", "inventory/lab.py", "deploys/all.py")
GROUP = ["app1", "app2", "app3"]


@pytest.fixture(scope="module", autouse=True)
def cluster(lab: LabUnderTest) -> None:
    lab.griddle("up")


def status(lab: LabUnderTest) -> dict:
    return json.loads(lab.griddle("etcd", "status", "--json", check=False).stdout)


def serving(lab: LabUnderTest) -> list[str]:
    """Hosts whose members serve, in one healthy cluster."""
    seen = status(lab)
    assert seen["healthy"], seen["problems"]
    return sorted(row["host"] for row in seen["members"])


def ids(lab: LabUnderTest) -> dict[str, str]:
    return {row["host"]: row.get("id") for row in status(lab)["members"]}


def lose_disk(lab: LabUnderTest, host: str) -> None:
    script = (
        "systemctl kill -s KILL etcd; systemctl stop etcd; rm -rf /var/lib/etcd/lab; systemctl start --no-block"
    )
    lab.ssh(host, f"sudo sh -c '{script} etcd'")


def test_an_apply_neither_changes_members_nor_leaves_them_behind(lab: LabUnderTest) -> None:
    files = "sudo find /etc/etcd /etc/griddle /etc/systemd/system -type f -exec sha256sum {} + | sort"
    before = lab.ssh("app3", files).stdout
    try:
        lab.griddle("lab", "move", "app3", "no-etcd")
        lab.griddle("lab", "move", "metrics1", "etcd")
        done = lab.pyinfra(*APPLY, check=False)
        assert done.returncode == 2
        lines = [line for line in done.stderr.splitlines() if line.startswith("griddle: ")]
        assert len(lines) == 1 and "./griddle etcd replace app3 metrics1" in lines[0]
        assert "Traceback" not in done.stderr and "Starting operation" not in done.stderr
    finally:
        lab.griddle("lab", "move", "metrics1", "no-etcd")
        lab.griddle("lab", "move", "app3", "etcd")
    assert lab.ssh("app3", files).stdout == before
    assert serving(lab) == GROUP


def test_a_member_that_has_lost_its_disk_is_taken_in_again(lab: LabUnderTest) -> None:
    before = ids(lab)
    with clients(lab.plan.virtual_ip) as told:
        lose_disk(lab, "app3")
        done = lab.pyinfra(*APPLY, check=False)
        assert done.returncode == 2 and "./griddle etcd replace app3 app3" in done.stderr
        lab.griddle("etcd", "replace", "app3", "app3")
    print(f"disk lost: {told}")
    assert serving(lab) == GROUP
    after = ids(lab)
    assert after["app3"] != before["app3"] and after["app1"] == before["app1"]
    assert lost(lab.plan.virtual_ip, told) == []
    assert report(lab)["operation"] == "etcd replace app3 app3"
    assert "nothing is left to do" in lab.griddle("etcd", "replace", "app3", "app3", "--dry").stderr


# --- proofs of minutes, on a lab of its own with the etcd engine: clients write into what is lost


@pytest.fixture(scope="module")
def own(make_lab: Callable[[str], LabUnderTest]) -> Iterator[LabUnderTest]:
    made = make_lab("etcd")
    made.griddle("up", "--store", "etcd")
    yield made
    made.griddle("down")


def killed_at_each_step(lab: LabUnderTest, *arguments: str) -> int:
    """Runs a command again and again, each time killed one step later; how often it was."""
    command = lab.griddle_command(*arguments)
    for step in range(40):
        run = subprocess.Popen(
            command, cwd=lab.checkout, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        begun = 0
        for line in run.stderr:
            begun += line.startswith("    ") and line.rstrip().endswith(" ...")
            if begun > step:
                run.kill()
                break
        run.wait()
        if begun <= step:
            assert run.returncode == 0
            return step
    raise AssertionError(f"{arguments} does not end")


@pytest.mark.long
def test_a_member_is_replaced_under_load_by_an_operator_who_is_killed_at_each_step(own: LabUnderTest) -> None:
    # who leaves leads, which nobody but itself can hand over
    leading = next(row["host"] for row in status(own)["members"] if row["leads"])
    if leading != "app3":
        own.ssh(leading, f"sudo griddle-etcdctl move-leader {ids(own)['app3']}")
    own.griddle("lab", "move", "app3", "no-etcd")
    own.griddle("lab", "move", "etcd1", "etcd")
    with clients(own.plan.virtual_ip) as told:
        kills = killed_at_each_step(own, "etcd", "replace", "app3", "etcd1")
    print(f"replaced with {kills} kills: {told}")
    assert kills >= 5
    assert serving(own) == ["app1", "app2", "etcd1"]
    assert told.failed.total() == 0 and lost(own.plan.virtual_ip, told) == []
    assert own.ssh("app3", "systemctl is-active etcd", check=False).stdout.strip() == "inactive"
    members = own.ssh("metrics1", "sudo grep targets /etc/victoria-metrics/scrape.yml").stdout
    assert own.plan.host("etcd1").address in members and own.plan.host("app3").address not in members
    assert own.plan.host("etcd1").address in own.ssh("app1", "cat /etc/griddle/griddle.toml").stdout
    assert "2380" not in own.ssh("app3", "sudo nft list table inet griddle").stdout


@pytest.mark.long
def test_a_lost_majority_is_restored_by_an_operator_who_is_killed_at_each_step(own: LabUnderTest) -> None:
    assert serving(own) == ["app1", "app2", "etcd1"]
    refused = own.griddle("etcd", "restore", check=False)
    assert refused.returncode == 2 and "etcd has a leader" in refused.stderr
    with clients(own.plan.virtual_ip) as told:
        time.sleep(5)
        for host in ("app2", "etcd1"):
            lose_disk(own, host)
            own.ssh(host, "sudo systemctl stop etcd")
        died = time.monotonic()
        kills = killed_at_each_step(own, "etcd", "restore")
        print(f"restored after {time.monotonic() - died:.0f} s with {kills} kills")
        time.sleep(5)
    print(f"majority lost: {told}")
    assert serving(own) == ["app1", "app2", "etcd1"]
    gone = lost(own.plan.virtual_ip, told)
    print(f"{len(gone)} of {len(told.acknowledged)} acknowledged writes are gone")
    assert len(gone) <= 3  # what the survivor had not yet been told of when the others died
    assert told.acknowledged and kills >= 5
    own.pyinfra(*APPLY)
