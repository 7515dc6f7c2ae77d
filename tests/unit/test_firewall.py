from deploys.firewall import config
from deploys.model import Cluster, Host
from tests.unit.clusters import cluster


def sources(to: str, port: int) -> set[str]:
    """Addresses that may reach a port of a group's hosts."""
    return {
        source
        for flow in config.flows(cluster())
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
    ruleset = config.files(cluster(), cluster().hosts["fdb1"])["/etc/nftables.conf"].content
    assert "policy drop" in ruleset
    assert "dport { 22 }" in ruleset
    assert "4500" in ruleset
    assert "2380" not in ruleset and "dport { 80 }" not in ruleset


def test_ssh_can_be_narrowed():
    narrowed = cluster(firewall_ssh_from=["198.51.100.0/24"])
    ruleset = config.files(narrowed, narrowed.hosts["app1"])["/etc/nftables.conf"].content
    assert "ip saddr { 198.51.100.0/24 } tcp dport { 22 }" in ruleset


def test_other_tables_are_left_alone():
    ruleset = config.files(cluster(), cluster().hosts["app1"])["/etc/nftables.conf"].content
    assert "flush ruleset" not in ruleset


def test_a_host_that_leaves_the_database_is_still_heard_by_the_others():
    usual = cluster()
    spare = Host("fdb6", "192.0.2.36", frozenset({"spare"}), usual.hosts["fdb1"].data)
    leaving = Cluster({**usual.hosts, "fdb6": spare}, usual.data)
    assert {"192.0.2.36"} < {s for flow in config.flows(leaving) if flow.to == "fdb" for s in flow.sources}
    assert "4500" in config.files(leaving, leaving.hosts["fdb6"])["/etc/nftables.conf"].content
