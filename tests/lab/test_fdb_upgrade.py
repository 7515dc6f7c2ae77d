"""`fdb status` and `fdb upgrade` on a whole cluster that clients use meanwhile: what they notice is counted, and
what they were told is read back. The operator is killed on the way.
"""

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cluster import artifacts
from tests.lab.clients import clients, lost
from tests.lab.conftest import HANGS_SECONDS, LabUnderTest, held_by_another
from tests.lab.versions import NEW, OLD

BROKEN = "7.3.99"


@pytest.fixture(scope="module", autouse=True)
def cluster(lab: LabUnderTest) -> None:
    if lab.status()["store"] != "fdb":
        pytest.skip("FoundationDB's packages cannot be had here, so the lab has no FoundationDB hosts")
    if NEW not in artifacts.available():
        pytest.skip(f"FoundationDB {NEW} is not in the directory of packages, so there is nothing to upgrade to")
    lab.griddle("up")


def seen(lab: LabUnderTest) -> dict:
    """What `fdb status` says; its exit code is that of the gates."""
    done = lab.griddle("fdb", "status", "--json", check=False)
    document = json.loads(done.stdout)
    assert (done.returncode == 0) == document["healthy"], done.stderr
    return document


def await_health(lab: LabUnderTest, seconds: float = 2 * HANGS_SECONDS) -> dict:
    end = time.monotonic() + seconds
    while not (document := seen(lab))["healthy"]:
        assert time.monotonic() < end, [gate for gate in document["gates"] if not gate["ok"]]
    return document


def reports(lab: LabUnderTest) -> list[dict]:
    """Oldest first."""
    return [
        json.loads(path.read_text()) for path in sorted((lab.checkout / "results" / "operations").glob("*.json"))
    ]


def refused(lab: LabUnderTest, *arguments: str) -> str:
    done = lab.griddle("fdb", "upgrade", *arguments, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stderr


def test_status_names_every_process_and_gate(lab: LabUnderTest) -> None:
    document = await_health(lab)
    assert document["versions"] == [OLD] and len(document["processes"]) == 5
    assert all(each["reachable"] for each in document["coordinators"])
    assert document["survives"] == {"data": 2, "availability": 2}
    assert sum(each["count"] for each in document["clients"]) >= 6
    assert document["hosts"]["app1"]["running"] == [OLD]
    assert "healthy" in lab.griddle("fdb", "status").stdout.splitlines()[0]


def test_a_dry_run_prints_the_plan_and_changes_nothing(lab: LabUnderTest) -> None:
    before = reports(lab)
    done = lab.griddle("fdb", "upgrade", NEW, "--dry")
    for words in (f"1. stage {NEW} on", "bounce the processes of fdb1, fdb2", "gate: healthy"):
        assert words in done.stderr
    assert reports(lab) == before
    assert lab.ssh("fdb1", f"ls -d /opt/foundationdb/{NEW}", check=False).returncode != 0


def test_what_is_refused_changes_nothing(lab: LabUnderTest) -> None:
    before = reports(lab)
    assert f"FoundationDB {BROKEN} is not in" in refused(lab, BROKEN)
    assert "seconds since last recovery" in refused(lab, NEW, "--recovered-seconds", "86400")
    with held_by_another(lab) as said:
        assert said in refused(lab, NEW)
    assert reports(lab) == before


def test_a_package_whose_binary_does_not_run_is_never_switched_to(lab: LabUnderTest, tmp_path: Path) -> None:
    packages = broken_packages(tmp_path)
    os.environ["GRIDDLE_ARTIFACTS"] = str(packages)
    try:
        done = lab.griddle("fdb", "upgrade", BROKEN, check=False)
    finally:
        del os.environ["GRIDDLE_ARTIFACTS"]
    assert done.returncode == 1 and f"{BROKEN} cannot be staged" in done.stderr, done.stderr
    document = seen(lab)
    assert document["healthy"] and document["versions"] == [OLD]
    assert {host["configured"] for name, host in document["hosts"].items() if name.startswith("fdb")} == {OLD}
    assert not any(BROKEN in host["staged"] for name, host in document["hosts"].items() if name.startswith("fdb"))
    assert reports(lab)[-1]["outcome"] == "failed"


def broken_packages(directory: Path) -> Path:
    """Packages as the vendor names them, with right checksums, whose fdbserver ends with 1."""
    sums = ""
    for package, binary in (
        ("foundationdb-clients", "usr/bin/fdbcli"),
        ("foundationdb-server", "usr/sbin/fdbserver"),
    ):
        root = directory / package
        (root / "DEBIAN").mkdir(parents=True)
        (root / "DEBIAN" / "control").write_text(
            f"Package: {package}\nVersion: {BROKEN}\nArchitecture: amd64\nMaintainer: nobody\nDescription: test\n"
        )
        file = root / binary
        file.parent.mkdir(parents=True)
        file.write_text(f"#!/bin/sh\nexit {1 if 'server' in package else 0}\n")
        file.chmod(0o755)
        deb = directory / artifacts.file_name(package, BROKEN)
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-b", str(root), str(deb)], check=True, capture_output=True
        )
        sums += f"{hashlib.sha256(deb.read_bytes()).hexdigest()}  {deb.name}\n"
    (directory / "SHA256SUMS").write_text(sums)
    return directory


def test_killed_on_its_way_under_load_it_goes_on(
    lab: LabUnderTest, sampled: Callable[[Sequence[str]], Sequence[str]]
) -> None:
    address, earlier = lab.plan.virtual_ip, len(reports(lab))
    steps = (f"stage {NEW}", "point fdb1", "bounce the processes", "store workers on", "gate: healthy")
    with clients(address) as told:
        for step in sampled(steps):
            lab.griddle_killed_at(step, "fdb", "upgrade", NEW)
        lab.griddle("fdb", "upgrade", NEW)
    assert told.well_served, told
    assert lost(address, told) == [] and len(told.acknowledged) > 100
    document = seen(lab)
    assert document["healthy"] and document["versions"] == [NEW]
    assert all(host["running"] == [NEW] for name, host in document["hosts"].items() if name.startswith("app"))
    # Where the killed ones left nothing to do, the last reports nothing, or had no time for a probe.
    done = [report for report in reports(lab)[earlier:] if report["outcome"] == "done"]
    assert not any(report["waits"]["failed"] or (report["probe"] or {}).get("failed") for report in done), done
    steps = [step["name"] for report in reports(lab)[earlier:] for step in report["steps"]]
    for each in reports(lab)[earlier:]:  # what nobody feels comes before the announcement
        names = [step["name"].split()[0] for step in each["steps"]]
        assert "stage" not in names[names.index("announce") :] if "announce" in names else True, names
    assert sum(step.startswith("bounce") for step in steps) <= 2, steps


def test_an_apply_does_not_go_back(lab: LabUnderTest) -> None:
    done = lab.pyinfra("-y", "inventory/lab.py", "deploys/all.py", "--data", "component=foundationdb", check=False)
    assert done.returncode != 0
    assert f'set fdb_version = "{NEW}" in inventory/group_data' in done.stdout + done.stderr
    assert seen(lab)["versions"] == [NEW]


def test_zone_by_zone_and_back_under_load(lab: LabUnderTest) -> None:
    address = lab.plan.virtual_ip
    with clients(address) as told:
        lab.griddle("fdb", "upgrade", OLD, "--rolling")
    assert told.asked > 500 and not told.failed, told
    assert lost(address, told) == []
    last = reports(lab)[-1]
    assert last["waits"]["failed"] == 0, last["waits"]
    zones = [step["name"] for step in last["steps"] if step["name"].startswith("restart the processes of")]
    assert len(zones) == 5 and all(step.get("gates") for step in last["steps"] if step["name"].startswith("gate"))
    document = seen(lab)
    assert document["healthy"] and document["versions"] == [OLD]
    assert {process["class"] for process in document["processes"]} == {"unset"}  # one of them yielded for a while
    assert lab.changes("foundationdb,backup") == {}  # each unit runs with what the upgrade has left
