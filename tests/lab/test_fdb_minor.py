"""FoundationDB to another minor version, which older tools and clients do not speak to, on a whole cluster.

There is no way back from it, so the lab's database is put aside first, and brought back after each proof.
"""

import contextlib
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster import artifacts
from deploys.backup import config as backup_config
from tests.lab.clients import Told, clients, lost
from tests.lab.conftest import LabUnderTest
from tests.lab.test_fdb_upgrade import await_health, refused, reports
from tests.lab.test_status import status
from tests.lab.versions import MINOR, OLD

NEW = MINOR
SERVERS = [f"fdb{number}" for number in range(1, 6)]
APPS = ["app1", "app2", "app3"]

PUT_ASIDE = """
systemctl stop foundationdb
rm -rf /var/lib/foundationdb.aside
cp -a /var/lib/foundationdb /var/lib/foundationdb.aside
systemctl start foundationdb
"""
SERVER_BACK = f"""
systemctl stop foundationdb
rm -rf /var/lib/foundationdb
cp -a /var/lib/foundationdb.aside /var/lib/foundationdb
sed -i 's|^command = .*|command = /opt/foundationdb/{OLD}/sbin/fdbserver|' /etc/foundationdb/foundationdb.conf
ln -sfn {OLD} /opt/foundationdb/current
rm -rf /opt/foundationdb/{NEW}
systemctl start foundationdb
"""
APP_BACK = f"""
rm -f /opt/foundationdb/clients/*.so
ln -sfn {OLD} /opt/foundationdb/current
rm -rf /opt/foundationdb/{NEW}
systemctl restart 'griddle-store@*'
"""
AGENTS_BACK = f"""
ln -sfn {OLD} /opt/foundationdb/current
rm -rf /opt/foundationdb/{NEW}
sed -i 's|/opt/foundationdb/{NEW}/|/opt/foundationdb/{OLD}/|' /etc/systemd/system/griddle-backup-agent@.service
systemctl daemon-reload
systemctl restart 'griddle-backup-agent@*'
"""


pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def aside(lab: LabUnderTest) -> Iterator[None]:
    """The database and its hosts on the old version; as they are now once more when all has been tried."""
    if lab.status()["store"] != "fdb":
        pytest.skip("FoundationDB's packages cannot be had here, so the lab has no FoundationDB hosts")
    if NEW not in artifacts.available():
        pytest.skip(f"FoundationDB {NEW} is not in the directory of packages, so there is nothing to upgrade to")
    lab.griddle("up")
    everywhere(lab, SERVERS, PUT_ASIDE)
    await_health(lab)
    yield
    for host in SERVERS:
        lab.ssh(host, "sudo rm -rf /var/lib/foundationdb.aside")


@pytest.fixture
def old(lab: LabUnderTest, aside: None) -> Iterator[None]:
    """A cluster of the old version, before and after."""
    await_health(lab)
    yield
    go_back(lab)


def go_back(lab: LabUnderTest) -> None:
    everywhere(lab, SERVERS, SERVER_BACK)
    everywhere(lab, APPS, APP_BACK)
    everywhere(lab, ["metrics1"], AGENTS_BACK)
    assert await_health(lab)["versions"] == [OLD]
    # Its backup has seen another future than the one that begins now.
    everywhere(lab, ["metrics1"], backup_config.tool("fdbbackup", f"abort -t {backup_config.TAG}"))
    lab.griddle("fdb", "backup", "now")


def everywhere(lab: LabUnderTest, hosts: list[str], script: str) -> None:
    """On all at once: a database that loses some of its hosts would begin to heal."""
    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(lambda host: lab.ssh(host, f"sudo sh -ec {shlex.quote(script)}", seconds=120), hosts))


def upgrade(lab: LabUnderTest, *options: str) -> str:
    return lab.griddle("fdb", "upgrade", NEW, *options).stderr


def assert_nothing_was_noticed(lab: LabUnderTest, told: Told) -> None:
    print(told)  # the longest wait, for whoever runs it with -s
    assert lost(lab.plan.virtual_ip, told) == [] and len(told.acknowledged) > 100
    assert told.asked > 500 and not told.failed, told


def assert_done(lab: LabUnderTest) -> None:
    document = await_health(lab)
    assert document["versions"] == [NEW]
    assert {name: host["running"] for name, host in document["hosts"].items()} == {
        name: [NEW] for name in [*SERVERS, *APPS]
    }
    assert {host["configured"] for host in document["hosts"].values()} == {NEW, None}
    agent = lab.ssh("metrics1", "sudo readlink /proc/$(pidof -s backup_agent)/exe").stdout
    assert agent.startswith(f"/opt/foundationdb/{NEW}/")


def backup(lab: LabUnderTest) -> dict:
    return json.loads(lab.griddle("fdb", "backup", "status", "--json").stdout)


def await_metrics(lab: LabUnderTest) -> None:
    """The board's questions are answered with green gates."""
    end = time.monotonic() + 90
    while True:
        gates = status(lab)["gates"]
        if gates["foundationdb_up"] and gates["foundationdb"] and all(gates["foundationdb"].values()):
            return
        assert time.monotonic() < end, gates
        time.sleep(2)


def test_in_one_go_under_load(lab: LabUnderTest, old: None) -> None:
    before = backup(lab)
    with clients(lab.plan.virtual_ip) as told:
        upgrade(lab)
    assert_nothing_was_noticed(lab, told)
    assert_done(lab)
    # There is no way back, and an apply whose data name the older one does not try.
    assert f"{NEW} to {OLD} goes back across minor versions" in refused(lab, OLD)
    for component in ("foundationdb", "backup"):
        done = lab.pyinfra(
            "-y", "inventory/lab.py", "deploys/all.py", "--data", f"component={component}", check=False
        )
        assert done.returncode != 0
        assert f'set fdb_version = "{NEW}" in inventory/group_data' in done.stdout + done.stderr
    # The metrics host asks by the new tool, and the agents have gone on with the same backup.
    await_metrics(lab)
    now = backup(lab)
    assert now["running"] and now["url"] == before["url"], now
    lab.griddle("fdb", "backup", "now")


# Without those that there is nothing to do for when all goes well.
STEPS = (
    f"stage {NEW}",
    "announce it",
    "clients first",
    "point the processes of",
    "bounce all processes",
    "point fdb1",
    "clean up",
)


def kill_at(lab: LabUnderTest, step: str, seconds: float = 0) -> bool:
    return lab.griddle_killed_at(step, "fdb", "upgrade", NEW, seconds=seconds)


def test_killed_at_every_step_it_goes_on(lab: LabUnderTest, old: None) -> None:
    earlier = len(reports(lab))
    with clients(lab.plan.virtual_ip) as told:
        came = {step: kill_at(lab, step) for step in STEPS}
        upgrade(lab)
    assert all(came.values()), came
    assert_nothing_was_noticed(lab, told)
    assert_done(lab)
    steps = [step["name"] for report in reports(lab)[earlier:] for step in report["steps"]]
    assert sum(step.startswith("bounce") for step in steps) <= 2, steps


def test_killed_in_the_middle_of_the_bounce_it_goes_on(lab: LabUnderTest, old: None) -> None:
    with clients(lab.plan.virtual_ip) as told:
        assert kill_at(lab, "bounce all processes", 0.7)
        upgrade(lab)
    assert_nothing_was_noticed(lab, told)
    assert_done(lab)


def test_a_host_is_lost_and_processes_end_around_the_bounce(lab: LabUnderTest, old: None) -> None:
    """The kill may have gone out before the operator was killed; either way what is there comes back new."""
    assert kill_at(lab, "bounce all processes")
    lab.griddle("lab", "stop", "fdb4")
    done = lab.griddle("fdb", "upgrade", NEW, check=False)
    assert done.returncode != 0 and "fdb4" in done.stderr, done.stderr
    print(done.stderr[-1500:])
    lab.griddle("lab", "start", "fdb4")
    everywhere(lab, ["fdb1", "fdb2"], "pkill -9 fdbserver")
    time.sleep(5)
    upgrade(lab)
    assert_done(lab)


def test_given_up_before_the_bounce(lab: LabUnderTest, old: None) -> None:
    with clients(lab.plan.virtual_ip) as told:
        assert kill_at(lab, "bounce all processes")
        lab.griddle("fdb", "upgrade", OLD)
    assert_nothing_was_noticed(lab, told)
    document = await_health(lab)
    assert document["versions"] == [OLD]
    assert {name: host["running"] for name, host in document["hosts"].items()} == {
        name: [OLD] for name in [*SERVERS, *APPS]
    }


STRANGER = """
import sys, time
import fdb
fdb.api_version(730)
database = fdb.open(sys.argv[1])
database.options.set_transaction_timeout(3000)
while True:
    try:
        database[b"p1"]
        print("read", flush=True)
    except fdb.FDBError as error:
        print("error", error.code, flush=True)
    time.sleep(0.3)
"""


@contextlib.contextmanager
def stranger(lab: LabUnderTest, directory: Path) -> Iterator[list[str]]:
    """A client on this machine, which is none of the cluster's hosts, with the old library alone; what it says."""
    package = artifacts.resolve(OLD, download=False).clients
    subprocess.run(["dpkg-deb", "-x", str(package), str(directory)], check=True)
    everywhere(
        lab, SERVERS, f"nft insert rule inet griddle input ip saddr {lab.plan.gateway} tcp dport 4500 accept"
    )
    cluster = directory / "fdb.cluster"
    cluster.write_text(lab.ssh("fdb1", "cat /var/lib/foundationdb/fdb.cluster").stdout)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(next(directory.rglob("libfdb_c.so")).parent)}
    for what, name in (("CERTIFICATE", "host.crt"), ("KEY", "host.key"), ("CA", "ca.crt")):
        file = directory / name
        file.write_text(lab.ssh("fdb1", f"sudo cat /etc/foundationdb/pki/{name}").stdout)
        environment[f"FDB_TLS_{what}_FILE"] = str(file)
    said: list[str] = []
    run = subprocess.Popen(
        [sys.executable, "-c", STRANGER, str(cluster)], env=environment, text=True, stdout=subprocess.PIPE
    )
    listener = threading.Thread(target=lambda: said.extend(line.strip() for line in run.stdout))
    listener.start()
    try:
        yield said
    finally:
        run.kill()
        run.wait()
        listener.join()
        everywhere(lab, SERVERS, "systemctl reload-or-restart griddle-firewall")


def test_a_stranger_with_the_old_library_is_named_and_can_be_cut_off(
    lab: LabUnderTest, old: None, tmp_path: Path
) -> None:
    with stranger(lab, tmp_path) as said:
        wait_until(lambda: "read" in said, 20)
        time.sleep(10)  # the cluster's list of clients is made from time to time
        line = refused(lab, NEW)
        assert f"clients that are not in the inventory would be cut off: {lab.plan.gateway}:" in line, line
        assert f"({OLD})" in line and "--cut-off" in line
        assert said[-1] == "read"
        with clients(lab.plan.virtual_ip) as told:
            upgrade(lab, "--cut-off")
        assert_nothing_was_noticed(lab, told)
        assert said[-1].startswith("error"), said[-5:]
    assert_done(lab)


def wait_until(true, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)
