"""What an apply may do to etcd, and what is left to do until its members are others: from what hosts said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploys.conductor.conduct import Plan
from deploys.etcd import judge
from deploys.etcd import membership_plan as members
from deploys.etcd.judge import Hosts
from deploys.etcd.look import Found, Member, Status
from deploys.etcd.membership_plan import MembersTarget

ADDRESSES = {name: f"192.0.2.{number}" for number, name in enumerate("abcdef", 1)}
PEERS = {name: f"{address}:2380" for name, address in ADDRESSES.items()}
IDS = {name: number for number, name in enumerate("abcdef", 101)}


def hosts(group: str) -> Hosts:
    return Hosts(
        "prod",
        {name: PEERS[name] for name in group},
        {name: peer for name, peer in PEERS.items() if name not in group},
    )


def member(host: str, **changes) -> Member:
    return replace(Member(IDS[host], host, PEERS[host]), **changes)


def listed(names: str, **changes: Member) -> tuple[Member, ...]:
    return tuple(changes.get(name, member(name)) for name in names)


def status(name: str, leader: str = "a", **changes) -> Status:
    return replace(Status(IDS[name], IDS.get(leader, 0), "3.4.23", 50, 60, 1 << 20, 1 << 19), **changes)


def serving(name: str, names: str = "abc", cluster: int = 7, leader: str = "a", **changes) -> Found:
    """A host whose member works."""
    found = Found(
        data=("prod",),
        active="active",
        enabled=True,
        cluster=cluster,
        members=listed(names),
        status=status(name, leader),
        endpoints=tuple(ADDRESSES[each] for each in names),
    )
    return replace(found, **changes)


def cluster(names: str = "abc", bare: str = "", **changes: Found) -> dict[str, Found]:
    """Hosts whose members work together, and bare ones."""
    return {**{n: serving(n, names) for n in names}, **{n: Found() for n in bare}, **changes}


def begun() -> tuple[Member, ...]:
    """The list of a cluster of a, b, c that has never had a majority."""
    return tuple(member(name, published=False) for name in "abc")


MOVED_PORT = tuple(member(name, peer=f"{ADDRESSES[name]}:9999") for name in "abc")
LEARNER = member("d", name="", learner=True, published=False)
JOINING = member("c", name="", learner=True, published=False)
SILENT = Found(data=("prod",), active="failed", enabled=True)
EMPTY = Found(active="activating", enabled=True)


# --- what an apply may do


def test_the_first_apply_begins_a_cluster_on_all_hosts_of_the_group():
    found = judge.judge({name: Found() for name in "abcde"}, hosts("abc"))
    assert found.refusals == () and found.begins == set("abc")


def test_the_next_apply_begins_nothing():
    assert judge.judge(cluster(bare="d"), hosts("abc")) == judge.Verdict()


@pytest.mark.parametrize("seen", [cluster(c=SILENT), {name: serving(name) for name in "ab"}])
def test_one_member_that_is_off_changes_nothing(seen):
    assert judge.judge(seen, hosts("abc")) == judge.Verdict()


def test_members_that_do_not_run_are_started_with_what_they_have():
    assert judge.judge(dict.fromkeys("abc", SILENT), hosts("abc")) == judge.Verdict()


def test_an_interrupted_first_apply_goes_on():
    waiting = serving("a", status=None, members=begun())
    assert judge.judge({"a": waiting, "b": Found(), "c": Found()}, hosts("abc")).begins == set("bc")
    two = tuple(member(name, published=name != "c") for name in "abc")
    seen = {**{name: serving(name, members=two) for name in "ab"}, "c": Found()}
    assert judge.judge(seen, hosts("abc")) == judge.Verdict(begins=frozenset("c"))


def test_what_debian_s_own_unit_has_left_is_no_cluster():
    left = Found(data=("default",))
    assert judge.judge({"a": left, "b": Found(), "c": Found()}, hosts("abc")).begins == set("abc")


@pytest.mark.parametrize(
    ("seen", "group", "expected"),
    [
        # grown, shrunk and replaced by editing the inventory
        (cluster("a", bare="bc"), "abc", "b, c are in group etcd and no member of it: ./griddle etcd add b c"),
        (cluster("abcde"), "abc", "d, e are a member of etcd and not in group etcd: ./griddle etcd remove d e"),
        (cluster(bare="d"), "abd", "./griddle etcd replace c d"),
        (cluster(bare="de"), "ade", "put d in the place of b alone, then ./griddle etcd replace b d"),
        # the group moved, its old hosts still in the inventory, or gone from it, or off
        (cluster(bare="def"), "def", "etcd's members are a, b, c, and group etcd has d, e, f. Members are"),
        ({"a": SILENT, "d": Found()}, "d", "there is data of etcd on a (prod)"),
        (
            {"d": Found(), "e": Found(endpoints=(ADDRESSES["a"], ADDRESSES["b"]))},
            "d",
            "the services of e were given etcd at 192.0.2.1, 192.0.2.2",
        ),
        # two clusters, by whatever way
        ({**cluster("abc"), "d": serving("d", "d", cluster=8, leader="d")}, "abc", "there are 2 etcd clusters: "
         "7 on a, b, c; 8 on d"),
        # disks
        (cluster(c=EMPTY), "abc", "c is a member of etcd, its data lost: ./griddle etcd replace c c"),
        (cluster(b=EMPTY, c=EMPTY), "abc", "b, c have lost etcd's data, a majority of 3: ./griddle etcd restore"),
        (
            {name: serving(name, data=("other",)) for name in "abc"},
            "abc",
            "a, b, c serve etcd's data of cluster other, and cluster_name is prod: put it back",
        ),
        ({"a": SILENT, "b": Found(), "c": Found()}, "abc", "etcd's data is on a, where no member answers"),
        (
            {"a": Found(snapshots=("/s/1.db", "/s/2.db")), "b": Found(), "c": Found()},
            "abc",
            "a has a snapshot, /s/2.db: ./griddle etcd restore",
        ),
        # an operation that was interrupted
        (
            {
                **cluster("ab", bare="c"),
                "a": serving("a", status=status("a", applied=99), members=(*listed("ab"), JOINING)),
            },
            "abc",
            "c is about to become a member: ./griddle etcd add c goes on",
        ),
        (
            {name: serving(name, members=(*listed("abc"), LEARNER)) for name in "abc"} | {"d": Found()},
            "abd",
            "d is about to become a member in the place of c: ./griddle etcd replace c d goes on",
        ),
        (cluster(b=serving("b", restoring=True)), "abc", "not come to its end on b: ./griddle etcd restore"),
        # others
        ({"a": Found()}, "abc", "a new etcd begins on all its hosts at once, and b, c took no part"),
        (
            {name: serving(name, members=MOVED_PORT) for name in "abc"},
            "abc",
            "the members know a as 192.0.2.1:9999, and the inventory has it at 192.0.2.1:2380",
        ),
        (
            {"a": serving("a", status=None, members=begun()), "d": Found()},
            "abd",
            "a first apply has begun an etcd of a, b, c and not ended it",
        ),
    ],
)  # fmt: skip
def test_what_an_apply_must_not_do_is_refused_in_a_line_with_the_command_that_does_it(seen, group, expected):
    found = judge.judge(seen, hosts(group))
    (line,) = found.refusals
    assert expected in line and "\n" not in line


def test_a_member_that_was_cut_off_knows_an_old_list():
    behind = serving("c", "abc", status=status("c", leader="", applied=3))
    seen = {name: serving(name, "abd") for name in "abd"} | {"c": behind}
    assert judge.judge(seen, hosts("abd")) == judge.Verdict()


# --- replace, add, remove


def actions(seen, target) -> list[tuple]:
    plan = members.plan(seen, target)
    assert plan.refusals == ()
    return [(step.action, *step.arguments) for step in plan.steps]


REPLACE = MembersTarget(hosts("abd"), join=("d",), leave=("c",))


def test_a_member_that_works_is_replaced_without_being_missed():
    assert actions(cluster(bare="d"), REPLACE) == [
        ("add", "d"), ("start", "d"), ("promote", "d"), ("remove_member", IDS["c"], "c"), ("stop", "c"),
    ]  # fmt: skip


def test_leadership_moves_before_its_holder_leaves():
    seen = {name: serving(name, leader="c") for name in "abc"} | {"d": Found()}
    steps = actions(seen, REPLACE)
    assert steps.index(("move_leader", "c")) == steps.index(("remove_member", IDS["c"], "c")) - 1
    assert members.heir(seen, REPLACE).name in "ab"


@pytest.mark.parametrize(
    ("seen", "left"),
    [
        ({n: serving(n, members=(*listed("abc"), LEARNER)) for n in "abc"} | {"d": Found()}, ["start", "promote"]),
        (
            {n: serving(n, members=(*listed("abc"), LEARNER)) for n in "abc"} | {"d": SILENT},  # old data, say
            ["remove_member", "put_aside", "add", "start", "promote"],
        ),
        ({n: serving(n, members=(*listed("abc"), member("d", learner=True))) for n in "abcd"}, ["promote"]),
        (cluster("abcd"), []),
    ],
)
def test_it_goes_on_from_wherever_it_was_interrupted(seen, left):
    steps = [each[0] for each in actions(seen, REPLACE) if each[0] != "healthy"]
    assert steps == [*left, "remove_member", "stop"]


def test_what_was_taken_out_is_stopped_also_later():
    seen = {name: serving(name, "abd") for name in "abd"}
    assert actions(seen, REPLACE) == []
    assert actions({**seen, "c": SILENT}, MembersTarget(hosts("abd"), leave=("c",))) == [("stop", "c")]


@pytest.mark.parametrize("lost", [None, SILENT, EMPTY])
def test_a_lost_member_leaves_before_another_joins(lost):
    seen = cluster(bare="d")
    del seen["c"]
    if lost:
        seen["c"] = lost
    assert [each[0] for each in actions(seen, REPLACE)][:4] == ["remove_member", "add", "start", "promote"]


def test_one_that_stops_answering_once_another_has_been_taken_in_leaves_last():
    joined = {n: serving(n, members=(*listed("abc"), member("d", learner=True))) for n in "abd"}
    for seen in (joined, {**joined, "c": SILENT}):
        assert [each[0] for each in actions(seen, REPLACE)][:2] == ["promote", "remove_member"]


def test_one_that_is_catching_up_knows_an_old_list():
    same = MembersTarget(hosts("abc"), join=("c",), leave=("c",))
    new = member("c", id=200, learner=True)
    others = {n: serving(n, status=None, members=(*listed("ab"), new)) for n in "ab"}
    others["a"] = serving("a", members=(*listed("ab"), new))
    behind = serving("c", status=status("c", id=200, applied=99))  # its list still has what was removed
    assert [each[0] for each in actions({**others, "b": serving("b"), "c": behind}, same)][:1] == ["promote"]


def test_a_lost_disk_is_replaced_by_the_same_host():
    same = MembersTarget(hosts("abc"), join=("c",), leave=("c",))
    assert actions(cluster(c=EMPTY), same)[:5] == [
        ("remove_member", IDS["c"], "c"), ("put_aside", "c"), ("add", "c"), ("start", "c"), ("promote", "c"),
    ]  # fmt: skip
    removed = {name: serving(name, "ab") for name in "ab"} | {"c": Found()}
    assert [each[0] for each in actions(removed, same)] == ["add", "start", "promote"]
    assert actions(cluster(), same) == []


def test_several_join_one_after_another():
    seen = {"a": serving("a", "a"), "b": Found(), "c": Found()}
    steps = actions(seen, MembersTarget(hosts("abc"), join=("b", "c")))
    assert [each for each in steps if each[0] != "start"] == [
        ("add", "b"), ("promote", "b"), ("add", "c"), ("promote", "c"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "target", "expected"),
    [
        (cluster(), replace(REPLACE, hosts=hosts("abc")), "d is to join: put it into group etcd"),
        (cluster(bare="d"), MembersTarget(hosts("abc"), leave=("c",)), "c is to leave: take it out of group etcd"),
        (cluster(), REPLACE, "d is to join, and does not answer by SSH"),
        (cluster(bare="de"), MembersTarget(hosts("ade"), ("d",), ("b",)), "c is a member, not in group etcd"),
        (cluster(bare="de"), MembersTarget(hosts("abcde"), ("d",)), "e is in group etcd, no member, and not to"),
        (cluster(b=SILENT, bare="d"), REPLACE, "b is to stay a member, and does not work: bring it back first"),
        (
            {n: serving(n, status=status(n, leader="")) for n in "ac"} | {"d": Found()},
            REPLACE,
            "etcd has no leader: bring members back until a majority runs",
        ),
        ({"a": SILENT, "b": SILENT, "d": Found()}, REPLACE, "no member of group etcd answers"),
        (
            {**cluster(), "d": serving("d", "d", cluster=8, leader="d")},
            REPLACE,
            "another etcd cluster, 8, is on d",
        ),
    ],
)  # fmt: skip
def test_what_would_not_be_safe_is_refused(seen, target, expected):
    plan: Plan = members.plan(seen, target)
    assert plan.steps == () and expected in plan.refusals[0]
