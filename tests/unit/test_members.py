"""Hosts and coordinators of FoundationDB: what is left to do, from captured status documents."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from deploys.conductor.conduct import Plan
from deploys.foundationdb import membership_plan as members
from deploys.foundationdb.membership_plan import Leaver, Member, MembersSeen, MembersTarget
from deploys.foundationdb.status import Limits

DOCUMENTS = Path(__file__).parent / "data" / "fdb_status"


def member(number: int) -> Member:
    address = f"192.0.2.{30 + number}"
    return Member(address, frozenset({f"{address}:4500"}), f"{address}:4500")


def hosts(*numbers: int) -> dict[str, Member]:
    return {f"fdb{number}": member(number) for number in numbers}


def limits(*numbers: int) -> Limits:
    processes = frozenset().union(*(each.endpoints for each in hosts(*numbers).values()))
    return Limits(replicas=3, zone_failures=2, processes=processes)


def document(
    name: str = "healthy", joined: int | None = None, coordinators: tuple[int, ...] = (), uptime: float | None = 60
) -> dict:
    """A captured document; `joined`: a sixth host serves, too, for `uptime` s; `coordinators`: these instead."""
    found = json.loads((DOCUMENTS / f"{name}.json").read_text())
    processes = found["cluster"]["processes"]
    for process in processes.values():
        process["disk"] = {"free_bytes": 50 << 30, "total_bytes": 100 << 30}
    if joined:
        copy = json.loads(json.dumps(next(iter(processes.values()))))
        copy |= {"address": f"192.0.2.{30 + joined}:4500", "uptime_seconds": uptime}
        if uptime is None:
            del copy["uptime_seconds"]
        copy["locality"] |= {"zoneid": f"fdb{joined}"}
        processes["joined"] = copy
    if coordinators:
        found["client"]["coordinators"]["coordinators"] = [
            {"address": f"192.0.2.{30 + number}:4500", "reachable": True} for number in coordinators
        ]
    return found


REPLACE = MembersTarget(hosts(1, 2, 3, 4, 6), hosts(5), limits(1, 2, 3, 4, 6), 5, join="fdb6", leave="fdb5")
SERVING = Leaver(reached=True, runs=True, holds=True)
LEAVING = "192.0.2.35"


def seen(found: dict, **changes) -> MembersSeen:
    values = {"leaver": SERVING, "key": "lab:a", "seeds": {"fdb1": "lab:a"}} | changes
    return MembersSeen(found, **values)


def actions(plan: Plan) -> list[str]:
    assert plan.refusals == ()
    return [step.action for step in plan.steps]


# --- one host for another


def test_a_host_is_replaced_in_the_order_that_keeps_every_copy():
    assert actions(members.plan(seen(document()), REPLACE)) == [
        "joined", "healthy", "exclude", "coordinators", "emptied", "stop", "include", "seeds_follow", "healthy",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (seen(document(joined=6)), ["exclude", "coordinators", "emptied", "stop", "include", "seeds_follow"]),
        (
            seen(document(joined=6), excluded=frozenset({LEAVING})),
            ["coordinators", "emptied", "stop", "include", "seeds_follow"],
        ),
        (
            seen(document(joined=6, coordinators=(1, 2, 3, 4, 6)), excluded=frozenset({LEAVING}), key="lab:b"),
            ["emptied", "stop", "include", "seeds_follow"],
        ),
    ],
)
def test_it_goes_on_from_wherever_it_was_interrupted(state, expected):
    assert [step for step in actions(members.plan(state, REPLACE)) if step != "healthy"] == expected


def emptied(**changes) -> MembersSeen:
    found = document(joined=6, coordinators=(1, 2, 3, 4, 6))
    for process in found["cluster"]["processes"].values():
        if process["address"].startswith(LEAVING):
            process["roles"] = []
    return seen(found, excluded=frozenset({LEAVING}), **changes)


def test_a_host_is_stopped_only_once_it_holds_nothing():
    assert actions(members.plan(emptied(), REPLACE))[0] == "stop"
    late = emptied(in_progress=frozenset({f"{LEAVING}:4500"}))
    assert actions(members.plan(late, REPLACE))[0] == "emptied"


def test_one_that_was_stopped_is_still_in_the_clusters_list_for_a_while():
    stopped = Leaver(reached=True, runs=False, holds=False)
    state = emptied(leaver=stopped)
    assert actions(members.plan(state, REPLACE)) == ["include"]
    assert actions(members.plan(replace(state, excluded=frozenset()), REPLACE)) == []


def test_what_the_list_says_of_one_that_is_stopped_and_included_again_is_waited_for():
    listed = document(coordinators=(1, 2, 3, 4, 6), joined=6)
    next(each for each in listed["cluster"]["processes"].values() if LEAVING in each["address"])["version"] = ""
    assert actions(members.plan(seen(listed, leaver=Leaver(reached=True)), REPLACE)) == ["healthy"]


def test_files_of_a_host_that_others_stopped_are_removed_only_while_all_else_is_well():
    stopped = Leaver(reached=True, runs=False, holds=True)
    target = replace(REPLACE, members=hosts(1, 2, 3, 5, 6), spares=hosts(4), leave="fdb4")
    state = seen(document("one_machine_lost", joined=6), leaver=stopped)
    steps = [step.name for step in members.plan(state, target).steps]
    gate = steps.index("gate: healthy, before the files of fdb4 are removed")
    assert gate < steps.index("stop FoundationDB on fdb4 and remove its files there")


def test_seeds_follow_where_an_interruption_left_them_behind():
    stopped = Leaver(reached=True)
    state = emptied(leaver=stopped, key="lab:b", seeds={"this machine": "lab:a", "fdb1": "lab:b"})
    steps = members.plan(replace(state, excluded=frozenset()), REPLACE).steps
    assert [step.name for step in steps] == ["the seed cluster files of this machine follow"]


# --- a host that is lost


def test_a_lost_host_is_replaced_and_stays_excluded():
    target = replace(REPLACE, members=hosts(1, 2, 3, 5, 6), spares=hosts(4), leave="fdb4")
    state = seen(document("one_machine_lost", joined=6), leaver=Leaver())
    plan = members.plan(state, target)
    assert actions(plan) == ["exclude", "coordinators", "emptied", "seeds_follow", "healthy"]
    (moved,) = [step for step in plan.steps if step.action == "coordinators"]
    assert set(moved.arguments) == {f"192.0.2.{30 + number}:4500" for number in (1, 2, 3, 5, 6)}


# --- what is refused


def refusal(state: MembersSeen, target: MembersTarget) -> str:
    plan = members.plan(state, target)
    assert plan.steps == ()
    return " / ".join(plan.refusals)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (replace(REPLACE, join="fdb9"), "fdb9 is no FoundationDB host of the inventory; it has fdb1, fdb2"),
        (replace(REPLACE, leave="fdb4"), "move it from group fdb to group spare"),
        (replace(REPLACE, join="fdb5", leave=""), "fdb5 is to join: put it into group fdb"),
        (replace(REPLACE, join="", leave="", choose=("fdb5",)), "fdb5 is in group spare"),
    ],
)
def test_the_inventory_says_it_first(target, expected):
    assert expected in refusal(seen(document()), target)


def test_an_unhealthy_cluster_empties_nobody():
    assert "not healthy: recovery state" in refusal(seen(document("mid_recovery")), REPLACE)
    lost_another = refusal(seen(document("one_machine_lost")), REPLACE)
    assert "every coordinator reachable: 192.0.2.34:4500" in lost_another


def test_what_is_wrong_with_the_host_that_leaves_alone_does_not_hinder_it():
    """It missed an upgrade, and its disk fails."""
    found = document(joined=6)
    old = next(each for each in found["cluster"]["processes"].values() if each["address"] == f"{LEAVING}:4500")
    old |= {"version": "7.3.75", "messages": [{"name": "io_error"}]}
    assert actions(members.plan(seen(found), REPLACE))[0] == "exclude"
    stay = (1, 2, 3, 5, 6)
    other = MembersTarget(hosts(*stay), hosts(4), limits(*stay), 5, leave="fdb4")
    assert "one version: 7.3.75 (192.0.2.35:4500), 7.3.77" in refusal(seen(found), other)


def test_the_recovery_that_joining_costs_is_waited_for():
    found = document(joined=6)
    del found["cluster"]["data"]["state"]  # what data distribution says for half a minute: nothing
    plan = members.plan(seen(found), REPLACE)
    assert plan.steps[0].name == "gate: healthy, before fdb5 is emptied"
    assert "not healthy: data healthy: missing" in refusal(seen(found), replace(REPLACE, join=""))


def test_without_a_database_nothing_is_begun():
    for name in ("no_quorum", "never_created"):
        found = json.loads((DOCUMENTS / f"{name}.json").read_text())
        assert "not available" in refusal(seen(found), REPLACE)


def test_too_few_coordinators_are_refused():
    target = replace(REPLACE, members=hosts(1, 2, 3, 4), join="", limits=limits(1, 2, 3, 4))
    assert "5 coordinators on hosts that serve are needed, and 4 can be had" in refusal(seen(document()), target)


def test_the_others_need_room_for_what_moves():
    found = document()
    for process in found["cluster"]["processes"].values():
        process["disk"] = {"free_bytes": 9 << 30, "total_bytes": 100 << 30}
    assert "the others have no room: 9.0 GiB free" in refusal(seen(found), REPLACE)


# --- additions and coordinators alone: what was sound is sound again at the end; what was not cannot be waited for

ADD = MembersTarget(hosts(1, 2, 3, 4, 5, 6), {}, limits(1, 2, 3, 4, 5, 6), 5, join="fdb6")


def test_a_sound_cluster_is_sound_again_after_an_addition():
    assert members.is_sound(seen(document()), ADD)
    sound = replace(ADD, sound=True)
    assert actions(members.plan(seen(document()), sound)) == ["joined", "healthy"]
    # It is there at once, nothing is said of its age, and some seconds later there is a recovery.
    for uptime in (None, 2):
        assert actions(members.plan(seen(document(joined=6, uptime=uptime)), sound)) == ["joined", "healthy"]
    assert actions(members.plan(seen(document(joined=6)), sound)) == []


def test_an_addition_to_one_that_has_lost_a_host_does_not_wait_for_it():
    lost = seen(document("one_machine_lost"))
    assert not members.is_sound(lost, ADD)
    assert actions(members.plan(lost, ADD)) == ["joined"]


def test_moving_coordinators_ends_with_health():
    named = MembersTarget(
        hosts(1, 2, 3, 4, 5, 6), {}, limits(1, 2, 3, 4, 5, 6), 5,
        choose=("fdb2", "fdb3", "fdb4", "fdb5", "fdb6"), sound=True,
    )  # fmt: skip
    assert actions(members.plan(seen(document(joined=6)), named)) == ["coordinators", "seeds_follow", "healthy"]


def test_coordinators_that_answer_stay():
    auto = MembersTarget(hosts(1, 2, 3, 4, 5, 6), {}, limits(1, 2, 3, 4, 5, 6), 5, choose=("auto",))
    assert actions(members.plan(seen(document(joined=6)), auto)) == []
    (step, _) = members.plan(seen(document("one_machine_lost", joined=6)), auto).steps
    assert step.action == "coordinators" and "192.0.2.34:4500" not in step.arguments
    assert "192.0.2.36:4500" in step.arguments


def test_coordinators_are_those_that_were_named():
    named = MembersTarget(
        hosts(1, 2, 3, 4, 5, 6), {}, limits(1, 2), 5, choose=("fdb2", "fdb3", "fdb4", "fdb5", "fdb6")
    )
    (step, _) = members.plan(seen(document(joined=6)), named).steps
    assert step.arguments == tuple(f"192.0.2.{30 + number}:4500" for number in (2, 3, 4, 5, 6))
    assert "fdb6 does not serve" in refusal(seen(document()), named)
