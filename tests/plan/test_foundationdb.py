"""FoundationDB: order, what is done from one host only, and what is refused."""

import json
import re
from pathlib import Path

import pytest

from cluster.model import Host
from deploys.foundationdb import config
from inventory.group_data import fdb as defaults

DEPLOY = """
from deploys.framework.component import component
from deploys.foundationdb import deploy as foundationdb
component(foundationdb, "fdb", "apps")
"""
DOCUMENTS = Path(__file__).parents[1] / "unit" / "data" / "fdb_status"
VERSION = "7.3.77"
CREATE = "foundationdb | a triple ssd database exists"
BOUNCE = "foundationdb | all processes run as configured"
GATE = "foundationdb | gate: healthy"
# As host data, which goes before every group's.
DATA = {key: value for key, value in vars(defaults).items() if key.startswith("fdb_")} | {
    "fdb_version": VERSION,
    "fdb_port": 4500,
    "fdb_tls": False,
    "fdb_process_classes": ["unset"],
    "fdb_health_seconds": 2,
}
SERVERS = ["fdb1", "fdb2", "fdb3", "fdb4", "fdb5"]
CLIENTS = ["app1", "app2", "app3"]


@pytest.fixture
def deploy(tmp_path, packages):
    """The deploy file, on a machine that has both packages."""
    packages(VERSION)
    path = tmp_path / "deploy.py"
    path.write_text(DEPLOY)
    return str(path)


def status(name: str, **data) -> str:
    """A captured document whose processes run as the fake hosts' data ask for."""
    document = json.loads((DOCUMENTS / f"{name}.json").read_text())
    values = DATA | data
    for process in document["cluster"].get("processes", {}).values():
        address = process["address"].split(":")[0]
        host = Host(f"fdb{address[-1]}", address, frozenset({"fdb"}), values)
        process["command_line"] = " ".join(config.command_line(host, config.processes(host)[0]))
    return json.dumps(document)


def run(
    fake, deploy, document: str, installed: str = "", remembers: str = "", configured: str = "", dry: bool = False
):
    return fake(
        deploy,
        *(["--dry"] if dry else []),
        store_engine="fdb",
        **DATA,
        responses={
            "*": {"status json": document, "readlink": [f"current {installed}", f"configured {configured}"]},
            remembers: {"clusterId": ["current 7.3.77", "database"]},
        },
    )


def test_a_running_cluster(fake, deploy):
    done = run(fake, deploy, status("healthy"))
    assert done.returncode == 0, done.output
    ran = {name: sorted(hosts) for name, hosts in done.operations}
    assert ran[f"foundationdb | version {VERSION} is unpacked in /opt/foundationdb"] == CLIENTS + SERVERS
    assert ran["foundationdb | fdbmonitor is started"] == SERVERS
    assert ran["foundationdb | the client's own cluster file"] == CLIENTS
    assert [ran[name] for name in (CREATE, BOUNCE, GATE)] == [["fdb1"]] * 3
    assert [name for name, _ in done.operations][-6:] == [
        "foundationdb | fdbmonitor is started",
        CREATE,
        BOUNCE,
        GATE,
        "foundationdb | fdbmonitor runs its unit as it is now",
        "foundationdb | gate: still healthy",
    ]


def outcome(done, operation: str) -> str:
    """What pyinfra says of an operation on fdb1."""
    section = done.output.split(f"operation: {operation}")[1].split("-->")[0]
    return re.search(r"fdb1\]\s+(.*?)\s*\n", section)[1]


def test_a_database_is_created_where_no_host_has_been_part_of_one(fake, deploy):
    assert outcome(run(fake, deploy, status("healthy")), CREATE) == "Success"


def test_an_existing_database_is_never_configured_anew(fake, deploy):
    # One host that remembers a database is enough, whatever the cluster says of itself.
    for document in (status("healthy"), status("never_created"), "ERROR: no answer"):
        done = run(fake, deploy, document, remembers="fdb4")
        assert outcome(done, CREATE) == "No changes"


def test_an_unhealthy_cluster_stops_the_run_and_says_what_fails(fake, deploy):
    done = run(fake, deploy, status("one_machine_lost"))
    assert done.returncode == 1
    assert "FoundationDB is healthy: not within 2 s; last seen:" in done.output
    assert "processes in the cluster: 4, without 192.0.2.34:4500" in done.output


def test_an_unhealthy_cluster_is_not_bounced(fake, deploy):
    done = run(fake, deploy, status("one_machine_lost", fdb_memory="3GiB"))
    assert done.returncode == 1
    assert "health before a bounce: not within 2 s" in done.output
    assert done.operations[-1] == (BOUNCE, [])


def test_a_dry_run_says_that_all_processes_would_be_restarted(fake, deploy):
    done = run(fake, deploy, status("healthy", fdb_memory="3GiB"), dry=True)
    assert done.returncode == 0, done.output
    said = "restart all 5 FoundationDB processes, at once: 5 of them run with an older configuration"
    assert said in done.output


@pytest.mark.parametrize(
    ("installed", "configured", "expected"),
    [
        ("7.1.61", "7.1.61", "7.1.61, the data want 7.3.77: another minor version is not wire-compatible"),
        (
            "7.1.61",
            "7.1.61",
            'set fdb_version = "7.1.61" in inventory/group_data, and run ./griddle fdb upgrade 7.3.77',
        ),
        ("7.4.6", "7.4.6", 'no way back: set fdb_version = "7.4.6" in inventory/group_data'),
        ("7.3.77", "7.4.6", "has not come to its end: run ./griddle fdb upgrade 7.4.6"),
    ],
)
def test_another_minor_version_is_refused_before_anything_is_done(fake, deploy, installed, configured, expected):
    done = run(fake, deploy, status("healthy"), installed, configured=configured)
    assert done.returncode != 0 and expected in done.output, done.output
    assert done.operations == []


def test_a_host_of_another_database_is_refused_before_anything_is_done(fake, deploy, tmp_path):
    run(fake, deploy, status("healthy"))
    done = fake(
        deploy, store_engine="fdb", **DATA, responses={"fdb2": {"readlink": "file lab:other@192.0.2.32:4500"}}
    )
    assert done.returncode != 0 and done.operations == []
    assert "fdb2 belongs to the database lab:other" in done.output


def test_the_seed_is_made_once(fake, deploy, tmp_path):
    run(fake, deploy, status("healthy"))
    kept = (tmp_path / "state" / "clusters" / "lab" / "fdb.cluster").read_text()
    assert kept.strip().endswith(",".join(f"192.0.2.{n}:4500" for n in range(31, 36)))
    run(fake, deploy, status("healthy"))
    assert (tmp_path / "state" / "clusters" / "lab" / "fdb.cluster").read_text() == kept
