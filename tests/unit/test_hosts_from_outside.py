"""Hosts of an inventory, as the operator's commands see them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import ssh
from cluster.errors import UserError
from cluster.model import Host
from ops import hosts


def test_an_inventory_is_read_as_pyinfra_reads_it() -> None:
    cluster = hosts.cluster(hosts.ROOT / "inventory" / "prod.py")
    assert cluster.name == "prod"
    assert [host.name for host in cluster.group("proxies")] == ["proxy1", "proxy2"]
    with pytest.raises(UserError, match="no host proxy9 in cluster prod: it has proxy1"):
        hosts.host(cluster, "proxy9")


def test_an_inventory_that_refuses_itself_ends_as_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no inventory"):
        hosts.cluster(tmp_path / "none.py")
    (tmp_path / "lab.py").write_text("raise SystemExit('griddle: there is no lab here; run ./griddle up')")
    with pytest.raises(UserError, match=r"lab.py: there is no lab here; run \./griddle up"):
        hosts.cluster(tmp_path / "lab.py")


def test_ssh_does_what_the_inventory_says() -> None:
    bare = Host("app1", "192.0.2.21", frozenset(), {})
    assert ssh.target(bare) == "app1"
    data = {
        "ssh_user": "deploy", "ssh_hostname": "192.0.2.9", "ssh_port": 2222, "ssh_key": "/k",
        "ssh_known_hosts_file": "/known", "ssh_strict_host_key_checking": "yes",
    }  # fmt: skip
    told = Host("app1", "192.0.2.21", frozenset(), data)
    assert ssh.target(told) == "deploy@192.0.2.9"
    options = " ".join(ssh.options(told))
    for expected in ("Port=2222", "-i /k", "UserKnownHostsFile=/known", "StrictHostKeyChecking=yes"):
        assert expected in options
    assert "BatchMode=yes" in " ".join(ssh.options(bare))
