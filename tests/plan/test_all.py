"""deploys/all.py reads as a table; this is what the table does."""

import pytest


@pytest.fixture
def applied(fake):
    # A fake host cannot run a health gate's parser: the store is the one that needs none.
    return fake("deploys/all.py", store_engine="etcd")


def test_tiers_follow_each_other(applied):
    assert applied.returncode == 0, applied.output
    components = []
    for name, _ in applied.operations:
        component = name.partition(" | ")[0]
        if components[-1:] != [component]:
            components.append(component)
    assert components == [
        "base", "firewall", "hosts", "etcd", "metrics", "stores", "app", "services", "proxy", "proxies", "smoke",
    ]  # fmt: skip


def test_every_host_is_at_every_barrier(applied):
    barriers = [hosts for name, hosts in applied.operations if name.endswith("| ready")]
    assert len(barriers) == 4
    assert all(len(hosts) == 11 for hosts in barriers)


def test_components_are_for_their_groups(applied):
    def ran(prefix):
        return {host for name, hosts in applied.operations if name.startswith(prefix) for host in hosts}

    assert len(ran("base | ")) == 11
    assert ran("app | ") == {"app1", "app2", "app3"}
    assert ran("proxy | ") == ran("smoke | ") == {"proxy1", "proxy2"}
    assert ran("etcd | members") == {"app1", "app2", "app3"}
    assert ran("etcd | client certificate") == {"app1", "app2", "app3", "proxy1", "proxy2", "metrics1"}


def test_one_component_can_be_applied_alone(fake):
    run = fake("deploys/all.py", "--data", "component=firewall", store_engine="etcd")
    assert run.returncode == 0, run.output
    assert {name.partition(" | ")[0] for name, hosts in run.operations if "ready" not in name} == {"firewall"}


def test_a_failed_service_keeps_the_proxies_as_they_are(fake):
    run = fake(
        "deploys/all.py",
        store_engine="etcd",
        responses={"app2": {"tar": {"success": False}, "systemctl restart": {"success": False}}},
    )
    assert run.returncode == 1
    assert not any(name.startswith("proxy | ") for name, _ in run.operations)
