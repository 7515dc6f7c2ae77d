import pytest

from cluster.model import Cluster, Host
from deploys.firewall import config
from tests.unit.clusters import cluster


def sources(to: str, port: int) -> set[str]:
    """Addresses that may reach a port of a group's hosts."""
    return {
        source
        for flow in [*config.flows(cluster()), config.ssh(cluster().hosts["app1"])]
        if flow.to in (to, "all") and port in flow.ports
        for source in flow.sources
    }


PROXIES = {"192.0.2.11", "192.0.2.12"}
APPS = {"192.0.2.21", "192.0.2.22", "192.0.2.23"}
FDB = {f"192.0.2.{i}" for i in range(31, 36)}
METRICS = {"192.0.2.41"}


def test_each_port_is_open_to_the_groups_that_need_it_and_to_nobody_else():
    assert sources("proxies", 80) == {"0.0.0.0/0"}
    for port in (7000, 7103, 8000, 8103):
        assert sources("apps", port) == PROXIES
    assert sources("etcd", 2379) == APPS | PROXIES | METRICS
    assert sources("etcd", 2380) == APPS
    for port in range(4500, 4504):  # one for each process of a host
        assert sources("fdb", port) == FDB | APPS | METRICS
    assert sources("fdb", 4504) == set()
    assert sources("metrics", 8428) == set()  # whoever reaches the store can delete from it
    assert sources("metrics", 80) == {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"}
    assert sources("apps", 7200) == set()


def test_a_host_gets_only_its_groups_rules():
    ruleset = config.ruleset(cluster(), cluster().hosts["fdb1"])
    assert "policy drop" in ruleset
    assert "dport { 22 }" in ruleset
    assert "4500" in ruleset
    assert "2380" not in ruleset and "dport { 80 }" not in ruleset


def test_ssh_can_be_narrowed():
    narrowed = cluster(firewall_ssh_from=["198.51.100.0/24"])
    ruleset = config.ruleset(narrowed, narrowed.hosts["app1"])
    assert "ip saddr { 198.51.100.0/24 } tcp dport { 22 }" in ruleset


def test_other_tables_are_left_alone():
    ruleset = config.ruleset(cluster(), cluster().hosts["app1"])
    assert "flush ruleset" not in ruleset


def test_a_host_that_leaves_the_database_is_still_heard_by_the_others():
    usual = cluster()
    spare = Host("fdb6", "192.0.2.36", frozenset({"spare"}), usual.hosts["fdb1"].data)
    leaving = Cluster({**usual.hosts, "fdb6": spare}, usual.data)
    assert {"192.0.2.36"} < {s for flow in config.flows(leaving) if flow.to == "fdb" for s in flow.sources}
    assert "4500" in config.ruleset(leaving, leaving.hosts["fdb6"])


def ssh(**data) -> config.Flow:
    return config.ssh(cluster(**data).hosts["app1"])


def test_ssh_is_open_where_one_connects_to():
    assert ssh().ports == (22,)
    assert ssh(ssh_port=2222).ports == (2222,)
    assert ssh(ssh_port=2222, firewall_ssh_port=22).ports == (22,)  # behind a port forwarding


def test_networks_within_others_and_of_both_versions():
    """nft refuses a set whose intervals overlap, and a set of both."""
    flow = ssh(firewall_ssh_from=["10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/8", "198.51.100.7", "2001:db8::/32"])
    assert flow.matches == [
        "ip saddr { 10.0.0.0/8, 198.51.100.7 } tcp dport { 22 }",
        "ip6 saddr { 2001:db8::/32 } tcp dport { 22 }",
    ]
    assert ssh(firewall_ssh_from=["10.0.0.0/8", "0.0.0.0/0"]).matches == ["tcp dport { 22 }"]


@pytest.mark.parametrize(
    ("data", "connection", "words"),
    [
        ({}, "198.51.100.7 50000 192.0.2.21 22", ""),
        ({"firewall_ssh_from": ["198.51.100.0/24"]}, "198.51.100.7 50000 192.0.2.21 22", ""),
        ({"firewall_ssh_from": ["198.51.100.0/24"]}, "::ffff:198.51.100.7 50000 ::ffff:192.0.2.21 22", ""),
        ({"firewall_ssh_from": ["2001:db8::/32"]}, "2001:db8::5 50000 2001:db8::21 22", ""),
        ({}, "fe80::1%host0 50000 fe80::2%host0 22", ""),
        ({"firewall_ssh_from": ["203.0.113.0/24"]}, "198.51.100.7 50000 192.0.2.21 22", "198.51.100.7"),
        ({"firewall_ssh_from": ["10.0.0.0/8"]}, "2001:db8::5 50000 2001:db8::21 22", "2001:db8::5"),
        ({}, "198.51.100.7 50000 192.0.2.21 2222", "port 2222"),
        ({"ssh_port": 2222, "firewall_ssh_port": 22}, "198.51.100.7 50000 192.0.2.21 2222", "firewall_ssh_port"),
        ({}, "", ""),  # nobody can say
    ],
)
def test_rules_are_held_against_the_connection_that_there_is(data, connection, words):
    reason = config.shut_out(ssh(**data), connection)
    assert bool(reason) == bool(words) and words in reason


def test_what_the_kernel_has_is_compared_too():
    look = ["kept e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "live a", "loaded a"]
    assert config.in_force(look, "")
    assert not config.in_force(look, "other rules")
    assert not config.in_force([*look[:1], "live b", "loaded a"], "")  # nft flush ruleset
    assert not config.in_force(["kept ", "live a", "loaded "], "")
    assert not config.in_force([], "")
