"""`griddle etcd compact`, `defragment`, `disarm`: in which order, what is refused; and on real members."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.errors import Failure, UserError
from cluster.pki import places
from deploys.etcd.look import Found, Status
from ops.etcd import status, upkeep
from tests.unit import stores
from tests.unit.etcds import Etcds

QUOTA = 3 * 2**20
ONE = Status(id=1, leader=2, version="3.4.23", revision=9, applied=9, size=50, in_use=20, quota=100)
SEEN = {"a": ONE, "b": replace(ONE, id=2), "c": replace(ONE, id=3)}
GROUP = tuple(SEEN)


def test_who_leads_comes_last_and_hands_over() -> None:
    assert upkeep.in_order(SEEN) == ["a", "c", "b"]
    assert [upkeep._heir(SEEN, name) for name in SEEN] == [None, "a", None]
    alone = {"a": replace(ONE, leader=1)}
    assert (upkeep.in_order(alone), upkeep._heir(alone, "a")) == (["a"], None)


@pytest.mark.parametrize("lost", [Found(), Found(status=replace(ONE, leader=0)), None])
def test_no_member_stands_still_while_another_does_not_serve(lost: Found | None) -> None:
    found = {name: Found(status=each) for name, each in SEEN.items()}
    assert upkeep.serving(found, GROUP) == SEEN
    with pytest.raises(UserError, match="b: no member that serves"):
        upkeep.serving({name: each for name, each in (found | {"b": lost}).items() if each}, GROUP)


def test_an_alarm_stays_up_where_there_is_no_room_or_a_members_data_differ() -> None:
    assert upkeep.refusals(SEEN, ["NOSPACE"]) == []
    (line,) = upkeep.refusals(SEEN | {"b": replace(ONE, size=96)}, ["NOSPACE"])
    assert "b uses 96% of its quota" in line and "defragment" in line and "etcd_quota_bytes" in line
    assert "CORRUPT is up" in upkeep.refusals(SEEN, ["CORRUPT", "NOSPACE"])[0]


@pytest.fixture
def members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Etcds]:
    """Three real members, each reached as if by SSH to its host."""
    if reason := stores.etcd_missing():
        pytest.skip(reason)
    made = Etcds(tmp_path)

    def on_host(host, script: str, seconds: float = 30, stdin: bytes | None = None):
        pki, port = f"{made.root(host.name)}{places.ETCD}", host.data["etcd_client_port"]
        wrapper = tmp_path / f"bin-{host.name}"
        wrapper.mkdir(exist_ok=True)
        (wrapper / "griddle-etcdctl").write_text(
            f"#!/bin/sh\nETCDCTL_API=3 exec etcdctl --cacert {pki}/ca.crt --cert {pki}/member.crt"
            f' --key {pki}/member.key --endpoints https://127.0.0.1:{port} "$@"\n'
        )
        (wrapper / "griddle-etcdctl").chmod(0o755)
        (wrapper / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
        (wrapper / "sudo").chmod(0o755)
        return subprocess.run(
            ["sh", "-c", script], env={"PATH": f"{wrapper}:/usr/bin:/bin"}, capture_output=True, timeout=seconds
        )

    monkeypatch.setattr(upkeep.hosts, "run", on_host)
    monkeypatch.setattr(upkeep.hosts, "cluster", lambda _: made.cluster)
    monkeypatch.setattr(status, "seen", lambda _: {name: made.look(name) for name in made.cluster.hosts})
    monkeypatch.setattr(upkeep.lock, "held", lambda *_: contextlib.nullcontext(Held()))
    monkeypatch.setattr(upkeep.marks, "span", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(upkeep, "WATCHERS_SECONDS", 1)
    try:
        for name in GROUP:
            made.cluster.hosts[name].data["etcd_quota_bytes"] = QUOTA
        made.bootstrap(*GROUP)
        yield made
    finally:
        made.stop()


class Held:
    def check(self) -> None:
        pass


def run(verb, *, dry: bool = False) -> None:
    verb(Path(), "inventory", dry=dry)


def fill(members: Etcds) -> None:
    """The same key again and again, until etcd says no."""
    for _ in range(400):
        if not members.ctl("a", "put", "key", "x" * 100_000, check=False):
            return
    raise AssertionError("the quota was never used up")


def test_a_cluster_whose_quota_is_used_up_takes_writes_again(members: Etcds, capsys) -> None:
    run(upkeep.disarm)
    assert "no alarm is up" in capsys.readouterr().err
    fill(members)
    assert any("NOSPACE" in members.look(name).status.alarms for name in GROUP)
    with pytest.raises(UserError, match=r"uses \d+% of its quota, so the alarm would be up again"):
        run(upkeep.disarm)
    leader = next(name for name in GROUP if members.look(name).status.id == members.look(name).status.leader)
    for verb in (upkeep.compact, upkeep.defragment):
        run(verb, dry=True)
    assert members.look("a").status.size > 0.9 * QUOTA, "a dry run has changed something"
    run(upkeep.compact)
    run(upkeep.compact)  # once more: there is nothing to forget
    run(upkeep.defragment)
    sizes = {name: members.look(name).status.size for name in GROUP}
    assert max(sizes.values()) < 0.3 * QUOTA, sizes
    assert members.look(leader).status.id != members.look(leader).status.leader, "the leader stood still"
    assert not members.ctl("a", "put", "other", "1", check=False)  # the alarm is still up
    run(upkeep.disarm)
    assert members.ctl("a", "put", "other", "1") == "OK\n"
    assert "x" * 100 in members.ctl("b", "get", "key")


def test_a_member_that_is_away_stops_it(members: Etcds, monkeypatch) -> None:
    members.servers["c"].stop()
    for verb in (upkeep.compact, upkeep.defragment, upkeep.disarm):
        with pytest.raises(UserError, match="c: no member that serves; bring it back first"):
            run(verb)
    members.start("c")
    members.await_leader("c")
    monkeypatch.setattr(upkeep, "DEFRAGMENT_SECONDS", 0)
    with pytest.raises(Failure, match=r"etcdctl defrag: .*the same command goes on"):
        run(upkeep.defragment)
