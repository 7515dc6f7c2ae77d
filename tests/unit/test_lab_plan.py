"""What a lab consists of: names, addresses and subnets."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ops.lab import network
from ops.lab.plan import free_candidate, lab_plan

PATHS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1).map(lambda text: Path("/") / text)


def test_the_hosts_are_those_of_the_architecture() -> None:
    plan = lab_plan(Path("/home/somebody/griddle"), with_fdb=True)
    groups: dict[str, list[str]] = {}
    for host in plan.hosts:
        for group in host.groups:
            groups.setdefault(group, []).append(host.name)
    assert groups == {
        "proxies": ["proxy1", "proxy2"],
        "apps": ["app1", "app2", "app3"],
        "etcd": ["app1", "app2", "app3"],
        "fdb": ["fdb1", "fdb2", "fdb3", "fdb4", "fdb5"],
        "metrics": ["metrics1"],
    }


def test_without_foundationdb_it_is_the_same_cluster_less_its_hosts() -> None:
    checkout = Path("/home/somebody/griddle")
    full, small = lab_plan(checkout, with_fdb=True), lab_plan(checkout, with_fdb=False)
    assert small.hosts == tuple(host for host in full.hosts if "fdb" not in host.groups)
    assert (small.name, small.subnet, small.virtual_ip) == (full.name, full.subnet, full.virtual_ip)


@given(PATHS, st.integers(0, 20_000))
def test_names_and_addresses_fit_and_are_each_used_once(checkout: Path, candidate: int) -> None:
    plan = lab_plan(checkout, True, candidate)
    subnet = IPv4Network(plan.subnet)
    addresses = [plan.gateway, plan.virtual_ip, *(host.address for host in plan.hosts)]
    assert len(set(addresses)) == len(addresses)
    assert all(IPv4Address(address) in subnet for address in addresses)
    assert subnet.subnet_of(IPv4Network("10.64.0.0/10"))
    assert all(len(network.interface(host)) <= 15 for host in plan.hosts)  # the kernel's IFNAMSIZ
    assert len({host.machine for host in plan.hosts}) == len(plan.hosts)


def test_two_candidates_have_nothing_in_common() -> None:
    one, other = (lab_plan(Path("/griddle"), True, candidate) for candidate in (0, 1))
    assert one.name != other.name
    assert not IPv4Network(one.subnet).overlaps(IPv4Network(other.subnet))
    assert not {host.machine for host in one.hosts} & {host.machine for host in other.hosts}


def test_a_subnet_that_is_taken_is_stepped_over() -> None:
    checkout = Path("/griddle")
    assert free_candidate(checkout, []) == 0
    first = IPv4Network(lab_plan(checkout, False).subnet)
    assert free_candidate(checkout, [first]) == 1
    wide = first.supernet(new_prefix=20)
    found = free_candidate(checkout, [wide])
    assert found
    assert not wide.overlaps(IPv4Network(lab_plan(checkout, False, found).subnet))
    assert free_candidate(checkout, [IPv4Network("10.0.0.0/8")]) is None


def test_a_host_can_be_moved_and_a_further_one_made() -> None:
    path = Path("/home/somebody/griddle")
    usual = {host.name: host for host in lab_plan(path, with_fdb=True).hosts}
    moved = lab_plan(path, with_fdb=True, moved={"fdb5": "spare", "fdb6": "fdb", "app9": "fdb"})
    assert {host.name: host.groups for host in moved.hosts if host != usual.get(host.name)} == {
        "fdb5": ("spare",),
        "fdb6": ("fdb",),
    }
    addresses = [host.address for host in moved.hosts]
    assert len(set(addresses)) == len(addresses)


def test_a_host_is_moved_into_etcd_and_out_of_it_beside_what_it_is_else() -> None:
    moved = {"app3": "no-etcd", "metrics1": "etcd", "etcd1": "etcd", "etcd2": "no-etcd"}
    plan = lab_plan(Path("/griddle"), with_fdb=False, moved=moved)
    groups = {host.name: host.groups for host in plan.hosts}
    assert groups["app2"] == ("apps", "etcd") and groups["app3"] == ("apps",)
    assert groups["metrics1"] == ("metrics", "etcd")
    assert groups["etcd1"] == ("etcd",) and groups["etcd2"] == ("spare",)
    back = lab_plan(Path("/griddle"), with_fdb=False, moved={"app3": "etcd"})
    assert back.hosts == lab_plan(Path("/griddle"), with_fdb=False).hosts
