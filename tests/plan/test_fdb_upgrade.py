"""`fdb upgrade` on fake hosts: what a dry run says, and that a refusal ends with 2 before anything is done."""

import pytest

from tests.plan.test_foundationdb import DATA, status

NEW = "7.3.78"


@pytest.fixture
def upgrade(fake, packages):
    """Run the deploy on hosts that run 7.3.77, with a cluster that says `document`."""
    packages(NEW)

    def run(document: str, *arguments: str, held: dict | None = None, free: int = 10**10, **data):
        return fake(
            "deploys/fdb_upgrade.py",
            *arguments,
            store_engine="fdb",
            fdb_backup_url="",
            **{**DATA, "fdb_version": NEW, "fdb_recovered_seconds": 0, **data},
            responses={
                "*": {
                    **(held or {}),
                    "status json": document,
                    "df --output": [
                        "release /opt/foundationdb/7.3.77/packages clients server",
                        "current 7.3.77",
                        "user",
                        "configured 7.3.77",
                        f"free {free}",
                    ],
                }
            },
        )

    return run


def test_a_dry_run_prints_the_plan(upgrade):
    done = upgrade(status("healthy"), "--dry")
    assert done.returncode == 0, done.output
    for line in (
        "1. stage 7.3.78 on fdb1, fdb2, fdb3, fdb4, fdb5, app1, app2, app3",
        "2. point fdb1, fdb2, fdb3, fdb4, fdb5 to 7.3.78",
        "3. bounce the processes of fdb1, fdb2, fdb3, fdb4, fdb5 at once",
        "gate: healthy",
    ):
        assert line in done.output


def test_zone_by_zone(upgrade):
    output = upgrade(status("healthy"), "--dry", fdb_rolling=True).output
    assert output.count("restart the processes of") == 5 and output.count("bears the loss of a zone") == 6
    assert "move the cluster controller off" in output and "their class of before" in output


@pytest.mark.parametrize(
    ("document", "more", "expected"),
    [
        ("one_machine_lost", {}, "the cluster is not healthy: every coordinator reachable: 192.0.2.34:4500"),
        ("healthy", {"free": 10**6}, "fdb1: 0 MiB free in /opt"),
        ("healthy", {"fdb_version": "7.1.61"}, "7.1.61"),
        ("healthy", {"fdb_recovered_seconds": 10**7}, "seconds since last recovery"),
    ],
)
def test_a_refusal_does_nothing(upgrade, document, more, expected):
    done = upgrade(status(document), **more)
    assert done.returncode == 2 and expected in done.output, done.output
    assert not any(hosts for _, hosts in done.operations)


def test_another_run_in_progress_is_named(upgrade, held):
    done = upgrade(status("healthy"), held=held)
    assert done.returncode == 2 and not any(hosts for _, hosts in done.operations)
    assert "another run is changing the cluster: fdb replace, by ada@desk (pid 7) since 2026-01-01" in done.output
