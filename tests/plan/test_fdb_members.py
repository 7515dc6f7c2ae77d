"""The operations on members and backup: what is refused before any host is changed."""

import pytest

from tests.plan.test_foundationdb import DATA, VERSION, status


@pytest.fixture(autouse=True)
def present(packages):
    packages(VERSION)


def run(fake, deploy: str, *arguments: str, document: str):
    file = "lab:aaaa@192.0.2.31:4500"
    installed = ["current 7.3.77", "database", f"seed {file}", f"file {file}"]
    responses = {"*": {"status json": document, "readlink": installed}}
    return fake(deploy, *arguments, store_engine="fdb", **DATA, responses=responses)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("leave=fdb5", "fdb remove fdb5: fdb5 is to leave: move it from group fdb to group spare"),
        ("leave=fdb9", "fdb remove fdb9: fdb9 is no FoundationDB host of the inventory"),
        ("coordinators=fdb1,fdb2", "5 coordinators on hosts that serve are needed, and 2 can be had"),
    ],
)
def test_members_that_the_inventory_does_not_have_are_refused_before_anything_is_done(fake, data, expected):
    done = run(fake, "deploys/fdb_members.py", "--data", data, document=status("healthy"))
    assert done.returncode == 2
    assert expected in done.output
    assert done.operations == []


def test_another_run_in_progress_is_named_before_anything_is_done(fake, held):
    done = fake("deploys/fdb_backup.py", "--data", "backup=now", store_engine="fdb", **DATA, responses={"*": held})
    assert done.returncode == 2 and done.operations == []
    assert "another run is changing the cluster: fdb replace, by ada@desk (pid 7) since 2026-01-01" in done.output


def test_a_database_that_is_down_is_not_restored(fake):
    down = '{"client": {"database_status": {"available": false}}}'
    done = run(fake, "deploys/fdb_restore.py", "--data", "to_version=5", document=down)
    assert done.returncode == 2
    assert "fdb restore to version 5: the database is not available" in done.output
    assert done.output.count("looking again for up to 15 s") == 1  # it might have been a recovery
