"""What a host says of etcd, asked of real members with TLS."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import pytest

from cluster.errors import Failure
from deploys.etcd.look import Found
from ops.etcd import status
from ops.stores import etcd_missing, wait_until
from services.control import OPERATION_KEY
from tests.unit.etcds import Etcds

pytestmark = pytest.mark.skipif(bool(etcd_missing()), reason=str(etcd_missing()))


@pytest.fixture
def etcds(tmp_path: Path):
    made = Etcds(tmp_path)
    yield made
    made.stop()


def test_a_bare_host_has_nothing(tmp_path: Path) -> None:
    etcds = Etcds(tmp_path)
    assert etcds.look("a") == Found()


def test_a_restore_that_has_not_come_to_its_end_is_seen(tmp_path: Path) -> None:
    etcds = Etcds(tmp_path)
    note = etcds.root("a") / "var/lib/etcd-restore/begun"
    note.parent.mkdir(parents=True)
    note.write_text("22 a b c\n")
    assert etcds.look("a") == Found(restoring=True)


def test_members_and_what_each_says_of_itself(etcds: Etcds) -> None:
    etcds.bootstrap("a", "b", "c")
    etcds.ctl("a", "put", OPERATION_KEY, json.dumps({"operation": "etcd snapshot", "owner": "x@y"}))
    etcds.services_know("a", "a", "b")
    found = {name: etcds.look(name) for name in "abc"}
    assert len({each.cluster for each in found.values()}) == 1 and found["a"].answers
    for each in found.values():
        assert each.data == ("test",)
        assert sorted((member.name, member.published) for member in each.members) == [(n, True) for n in "abc"]
        assert {m.address for m in each.members} == {host.address for host in etcds.cluster.group("etcd")}
    assert found["a"].endpoints == tuple(etcds.cluster.hosts[name].address for name in "ab")
    assert found["a"].operation["owner"] == "x@y"
    own = found["b"].status
    assert own.version.startswith("3.") and own.size > 0 and own.revision >= 1
    assert own.quota == 2 * 1024**3 and own.alarms == ()
    document = status.summary(etcds.cluster, found)
    assert document["healthy"], document["problems"]
    assert "leads" in "\n".join(status.screen(document))


def test_an_etcd_that_may_not_begin_a_cluster_has_no_data(etcds: Etcds) -> None:
    """As it is installed a host without data joins nobody, whatever runs around it."""
    etcds.install("a")
    with contextlib.suppress(Failure):  # it may end before it listens
        etcds.start("a")
    assert etcds.servers["a"].process.wait(20) != 0
    assert (etcds.root("a") / "var/lib/etcd/test/member").exists()
    assert etcds.look("a").data == () and not etcds.look("a").answers


def test_a_member_without_a_majority_is_still_asked(etcds: Etcds) -> None:
    etcds.bootstrap("a", "b", "c")
    etcds.servers["b"].stop()
    etcds.servers["c"].stop()
    wait_until("a has lost its leader", lambda: etcds.look("a").status.leader == 0)
    etcds.servers["a"].stop()
    etcds.start("a")  # from now on it answers its peers alone
    time.sleep(0.5)
    found = {name: etcds.look(name) for name in "abc"}
    assert found["a"].answers and found["a"].status is None and len(found["a"].members) == 3
    assert not found["b"].answers and found["b"].data == ("test",)
    document = status.summary(etcds.cluster, found)
    assert not document["healthy"]
    assert "a: waits for a majority" in document["problems"]


def test_an_alarm_is_seen_on_its_own_member_alone(etcds: Etcds) -> None:
    etcds.bootstrap("a", "b", "c")
    etcds.servers["a"].stop()
    conf = etcds.root("a") / "etc/etcd/etcd.yaml"
    conf.write_text(conf.read_text().replace("quota-backend-bytes: 2147483648", "quota-backend-bytes: 100000"))
    etcds.start("a")
    etcds.await_leader("a")

    def full() -> object:
        etcds.ctl("a", "put", "key", "x" * 60_000, check=False)
        return etcds.look("a").status.alarms

    wait_until("the alarm is raised", full)
    found = {name: etcds.look(name) for name in "abc"}
    assert found["a"].status.alarms == ("NOSPACE",) and found["a"].status.quota == 100_000
    problems = status.summary(etcds.cluster, found)["problems"]
    assert [line for line in problems if "alarm" in line] == ["a: alarm NOSPACE"]
