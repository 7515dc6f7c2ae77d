"""An apply looks at etcd's members before it changes anything, and etcd's verbs before they do."""

import json

from tests.unit.clusters import HOSTS

ADDRESSES = {name: f"192.0.2.{octet}" for group in HOSTS.values() for name, octet in group.items()}


def looked(names: tuple[str, ...], data: bool = True, number: int = 1, leader: int = 1) -> list[str]:
    """What deploys/etcd/look.py's script prints on a member's host of these; `number`: its own."""
    listed = [
        {"id": number, "name": name, "peerURLs": [f"https://{ADDRESSES[name]}:2380"], "clientURLs": ["https://x"]}
        for number, name in enumerate(names, 1)
    ]
    header = {"member_id": str(number), "revision": "5"}
    status = {"header": header, "leader": str(leader), "raftAppliedIndex": "9"}
    said = [f"members {json.dumps(listed)}", "cluster 2a", f"status {json.dumps(status)}"]
    return [*(["data griddle"] if data else []), "unit ActiveState=active", *said]


def responses(names: tuple[str, ...]) -> dict:
    return {name: {"x-etcd-cluster-id": looked(names)} for name in names}


def test_an_apply_after_the_group_was_edited_is_refused_in_one_line_and_nothing_is_done(fake):
    for names, expected in (
        (("app1",), "app2, app3 are in group etcd and no member of it: ./griddle etcd add app2 app3"),
        (("app1", "app2", "fdb1"), "To replace a member: ./griddle etcd replace fdb1 app3"),
        (("fdb1", "fdb2", "fdb3"), "Members are replaced one at a time: put app1 in the place of fdb1 alone"),
    ):
        done = fake("deploys/all.py", store_engine="etcd", responses=responses(names))
        assert (done.returncode, done.operations) == (2, []), done.output
        lines = [line for line in done.output.splitlines() if line.startswith("griddle: ")]
        assert len(lines) == 1 and expected in lines[0]
        assert "Traceback" not in done.output


def test_a_verb_whose_inventory_says_something_else_is_refused_before_anything_is_done(fake):
    asked = ("--data", "etcd_leave=app3", "--data", "etcd_join=fdb1")
    seen = responses(("app1", "app2", "app3"))
    done = fake("deploys/etcd_members.py", *asked, responses=seen, store_engine="etcd")
    assert (done.returncode, done.operations) == (2, [])
    assert "etcd replace app3 fdb1: fdb1 is to join: put it into group etcd of the inventory" in done.output
    assert "app3 is to leave: take it out of group etcd" in done.output


def test_a_majority_that_works_is_not_restored(fake):
    done = fake("deploys/etcd_restore.py", responses=responses(("app1", "app2", "app3")), store_engine="etcd")
    assert (done.returncode, done.operations) == (2, [])
    assert "etcd restore: etcd has a leader, so a majority works" in done.output


def test_leadership_is_handed_over_by_its_holder_alone_which_is_in_the_group_no_more(fake):
    names = ("app1", "app2", "app3", "fdb1")
    well = {"/waits": "{}", "lease/grant": '{"ID": "7"}', "kv/put": "{}", "lease/revoke": "{}"}
    answers = {name: dict(well) for hosts in HOSTS.values() for name in hosts}
    for number, name in enumerate(names, 1):
        answers[name]["x-etcd-cluster-id"] = looked(names, number=number, leader=4)
        answers[name]["transfer-leadership"] = "{}" if name == "fdb1" else '{"error": "etcdserver: not leader"}'
    done = fake("deploys/etcd_members.py", "--data", "etcd_leave=fdb1", responses=answers, store_engine="etcd")
    assert "another member than fdb1 leads: done" in done.output, done.output
    assert "Traceback" not in done.output
