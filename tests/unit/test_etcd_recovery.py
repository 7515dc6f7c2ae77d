"""What is left to do until a lost majority of etcd is restored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploys.etcd import restore
from deploys.etcd import restore_plan as recovery
from deploys.etcd.look import Found
from deploys.etcd.restore_plan import Copy, Looked, Stage
from tests.unit.test_etcd_judge import SILENT, cluster, hosts, serving, status

GROUP = ("a", "d", "e")
WAITS = serving("a", status=status("a", leader=""))  # the last of a, b, c
OLD = Copy("a", "/var/lib/etcd-snapshots/1.db", 40, "11")
OWN = Copy("a", "/var/lib/etcd/prod/member/snap/db", 50, "22")
BEGUN = Stage(begun="22", group=GROUP)


def looked(found: dict[str, Found], alive: tuple[str, ...] = (), **stages: Stage) -> Looked:
    return Looked(found, {name: stages.get(name, Stage()) for name in found}, alive)


def actions(seen: Looked, wanted: str = "") -> list[str]:
    plan = recovery.plan(seen, hosts("".join(GROUP)), wanted)
    assert plan.refusals == ()
    return [
        f"{step.action} {step.arguments[0]}" if step.action == "restore" else step.action for step in plan.steps
    ]


ALL = ["choose", "bring", "restore a", "restore d", "restore e", "start", "end"]
STOPPED = {"a": SILENT, "d": Found(), "e": Found()}


def test_a_majority_is_restored_on_the_survivor_and_in_the_place_of_the_lost():
    assert actions(looked({"a": WAITS, "d": Found(), "e": Found()}, a=Stage((OLD,)))) == ["stop", *ALL]


def test_what_has_come_farthest_is_taken_or_what_was_named():
    seen = looked(STOPPED, a=Stage((OLD, OWN)))
    assert recovery.chosen(seen) == OWN
    assert recovery.chosen(seen, "a:/var/lib/etcd-snapshots/1.db") == OLD
    assert recovery.chosen(seen, "d:/nowhere") is None


@pytest.mark.parametrize(
    ("stages", "left"),
    [
        ({"a": replace(BEGUN, copies=(OWN,))}, ALL),  # written down on one host
        (dict.fromkeys("ade", BEGUN), ALL[1:]),
        ({"a": replace(BEGUN, has="22"), "d": replace(BEGUN, has="22"), "e": BEGUN}, ALL[1:]),
        (dict.fromkeys("ade", replace(BEGUN, has="22")), ALL[2:]),
        (
            {
                "a": replace(BEGUN, has="22", done="22"),
                "d": replace(BEGUN, has="22", done="22"),
                "e": replace(BEGUN, has="22", done="11"),  # of another restore
            },
            ["restore e", "start", "end"],
        ),
        (dict.fromkeys("ade", replace(BEGUN, has="22", done="22")), ["start", "end"]),
    ],
)
def test_it_goes_on_from_wherever_it_was_interrupted(stages, left):
    assert actions(looked(STOPPED, **stages)) == left


def test_nothing_is_restored_over_a_majority_that_works_again():
    working = {name: serving(name, "ade") for name in "ade"}
    half_removed = {"a": replace(BEGUN, has="22", done="22")}
    assert actions(looked(working, **half_removed)) == ["end"]


def test_what_the_end_of_an_earlier_restore_has_left_is_not_restored_again():
    """It is old: the cluster has taken writes since, which a still holds."""
    old = replace(BEGUN, begun="11", has="11", done="11")
    seen = looked({"a": WAITS, "d": Found(), "e": Found()}, a=old)
    assert recovery.left_over(seen, GROUP) and recovery.begun(seen, GROUP) == ""
    assert actions(seen) == ["stop", *ALL]  # a's member, with what it holds, as well
    assert actions(looked(STOPPED, a=replace(old, begun="", copies=(OWN,)))) == ALL
    assert recovery.begun(looked(STOPPED, a=BEGUN), GROUP) == "22"  # one that has just been chosen


@pytest.mark.parametrize(
    ("seen", "group", "expected"),
    [
        (looked(cluster()), "abc", "etcd has a leader, so a majority works"),
        (looked({"a": WAITS, "d": Found()}), "ade", "e is not reached by SSH: start it, or put a host"),
        (looked({**STOPPED, "a": WAITS}, alive=("b",)), "ade", "b is not reached by SSH, but by other members"),
        (looked(dict.fromkeys("abc", SILENT)), "abc", "a, b, c have their data, a majority of 3: `sudo systemctl"),
        (looked({name: Found() for name in "abc"}), "abc", "there is nothing to restore from"),
        (looked({name: SILENT for name in "abc"}, a=BEGUN), "abc", "a restore on a, d, e was begun"),
    ],
)  # fmt: skip
def test_what_must_not_be_restored_is_refused(seen, group, expected):
    plan = recovery.plan(seen, hosts(group))
    assert plan.steps == () and expected in plan.refusals[0]


def test_a_named_snapshot_is_restored_where_all_members_were_stopped_for_it():
    seen = looked(dict.fromkeys("ade", SILENT), a=Stage((OLD,)))
    assert actions(seen, "a:/var/lib/etcd-snapshots/1.db") == ALL


def test_what_the_script_says_of_a_host_is_read():
    lines = ["begun 22 a d e", "done 11", "has 22", "copy 50 22 /var/lib/etcd/prod/member/snap/db"]
    assert restore.parse_stage("a", lines) == Stage((OWN,), "22", GROUP, "22", "11")
