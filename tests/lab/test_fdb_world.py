"""`fdb upgrade` on a cluster that has changed meanwhile: a host that comes back as it was before, a process and
files of somebody's hands.
"""

import time

import pytest

from deploys.foundationdb import config
from deploys.foundationdb.status import processes
from tests.lab.clients import clients, lost
from tests.lab.conftest import HANGS_SECONDS, LabUnderTest, report
from tests.lab.test_fdb_upgrade import NEW, OLD, await_health, cluster, refused
from tests.lab.test_foundationdb import fdbcli, status

pytestmark = pytest.mark.long
__all__ = ["cluster"]  # the fixture: the same lab, and the same reasons to skip

LATE = "fdb4"


def versions(lab: LabUnderTest) -> dict[str, str]:
    """{zone: version} of all processes; empty while the database says nothing."""
    return {process.zone: process.version for process in processes(status(lab))}


def await_versions(lab: LabUnderTest, wanted: dict[str, str]) -> None:
    end = time.monotonic() + HANGS_SECONDS
    while (found := versions(lab)) != wanted:
        assert time.monotonic() < end, found
        time.sleep(1)


def steps(lab: LabUnderTest) -> list[str]:
    return [step["name"] for step in report(lab)["steps"]]


def key(lab: LabUnderTest, host: str) -> str:
    """description:ID of the cluster file that its processes use."""
    return lab.ssh(host, f"tail -n 1 {config.CLUSTER_FILE}").stdout.partition("@")[0]


def test_a_coordinator_that_was_off_takes_part_again_with_the_version_and_coordinators_of_now(
    lab: LabUnderTest,
) -> None:
    await_health(lab)
    address = lab.plan.virtual_ip
    with clients(address) as told:
        lab.griddle("fdb", "upgrade", NEW)
        # As if its power had gone before the switch; coordinators change while it is away.
        lab.ssh(LATE, f"sudo sed -i s,/{NEW}/,/{OLD}/, {config.CONF}; sudo ln -sfn {OLD} {config.CURRENT}; sync")
        lab.griddle("lab", "stop", LATE)
        done = lab.griddle("fdb", "upgrade", NEW, check=False)
        assert done.returncode != 0 and f"[{LATE}]" in done.stdout + done.stderr
        assert f"no answer     by ssh from {LATE}" in lab.griddle("fdb", "status", check=False).stdout
        others = [h.address for h in lab.plan.hosts if "fdb" in h.groups and h.name not in (LATE, "fdb5")]
        tls = ":tls" if ":tls" in lab.ssh("fdb1", f"tail -n 1 {config.CLUSTER_FILE}").stdout else ""
        before = key(lab, "fdb1")
        fdbcli(lab, "coordinators " + " ".join(f"{each}:4500{tls}" for each in others))
        lab.griddle("lab", "start", LATE)
        await_versions(lab, {f"fdb{n}": OLD if f"fdb{n}" == LATE else NEW for n in range(1, 6)})
        assert key(lab, LATE) == key(lab, "fdb1") != before
        lab.griddle("fdb", "coordinators", "auto")
        lab.griddle("fdb", "upgrade", NEW)
    assert [step for step in steps(lab) if step.startswith(("point", "bounce"))] == [
        f"point {LATE} to {NEW}",
        f"bounce the processes of {LATE} at once",
    ]
    # A loss of power is announced to nobody: some requests fail, and nothing that was acknowledged is lost.
    assert lost(address, told) == [] and len(told.acknowledged) > 100, told
    document = await_health(lab)
    assert document["versions"] == [NEW] and len(document["coordinators"]) == 5


def test_what_somebody_has_done_by_hand_is_refused_or_mended(lab: LabUnderTest) -> None:
    await_health(lab)
    section = f"sudo tee -a {config.CONF} <<<'[fdbserver.4510]'"
    lab.ssh("fdb2", section)
    end = time.monotonic() + HANGS_SECONDS
    while len(processes(status(lab))) < 6:
        assert time.monotonic() < end
        time.sleep(1)
    stranger = f"{lab.plan.host('fdb2').address}:4510"
    (line,) = [line for line in refused(lab, OLD).splitlines() if "is a process of the database" in line]
    assert stranger in line and "fdb_process_classes of fdb2" in line and "`exclude" in line
    lab.ssh("fdb2", f"sudo sed -i /4510/d {config.CONF}")
    fdbcli(lab, f"exclude {stranger}")
    lab.ssh("fdb2", "sudo pkill -f 'public-address [0-9.]*:4510'")  # fdbcli kills none that is excluded
    fdbcli(lab, f"include {stranger}")
    await_health(lab)
    # Files: of the version to come a binary is cut short, of the configuration a line is another.
    lab.ssh("fdb3", f"sudo truncate -s 1000 {config.release(OLD)}/sbin/fdbserver")
    lab.ssh("fdb5", f"sudo sed -i 's,^command = .*,command = {config.CURRENT}/sbin/fdbserver,' {config.CONF}")
    lab.ssh("fdb5", f"sudo ln -sfn /opt/elsewhere {config.CURRENT}")
    lab.griddle("fdb", "upgrade", OLD)
    assert steps(lab)[0] == f"stage {OLD} on fdb3, and run it there once"
    assert any("foundationdb.conf of fdb5 was another" in step for step in steps(lab)), steps(lab)
    assert await_health(lab)["versions"] == [OLD]
