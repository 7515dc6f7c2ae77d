"""Names that only ssh's own configuration knows: who is reached by OpenSSH and by pyinfra is up."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyinfra.connectors.sshuserclient import SSHClient

from cluster.model import Cluster, Host
from ops import hosts, status
from tests.unit import sshd as servers
from tests.unit.clusters import cluster
from tests.unit.sshd import Sshd
from tests.unit.stores import free_port

pytestmark = pytest.mark.skipif(servers.missing() is not None, reason=str(servers.missing()))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with servers.sshd(tmp_path_factory.mktemp("sshd")) as made:
        yield made


@pytest.fixture
def config(server: Sshd, tmp_path: Path) -> Path:
    here = f"HostName 127.0.0.1\nPort {server.port}"
    return servers.client_config(
        server, tmp_path,
        alias=here,
        gate=here,
        behind=f"{here}\nProxyJump gate",
        helped=f"{here}\nProxyCommand ssh -F {tmp_path / 'ssh_config'} -W %h:%p gate",
        gone=f"HostName 127.0.0.1\nPort {free_port()}",
        lost=f"HostName 127.0.0.1\nPort {free_port()}\nProxyJump gate",
    )  # fmt: skip


def named(name: str, config: Path, **data: object) -> Host:
    return Host(name, "192.0.2.1", frozenset({"apps"}), {"ssh_config_file": str(config), **data})


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("alias", True), ("behind", True), ("helped", True), ("gone", False), ("lost", False),
        ("no-such-name.invalid", False),
    ],
)  # fmt: skip
def test_who_answers_by_ssh_is_reached_however_that_is_configured(name: str, answers: bool, config: Path) -> None:
    host = named(name, config)
    assert hosts.answers(host, 10) is answers
    assert (hosts.run(host, "echo there").stdout == b"there\n") is answers


def test_whether_a_host_answers_costs_no_login_where_none_is_needed(server: Sshd, config: Path) -> None:
    before = server.log.read_text().count("Accepted publickey")
    assert hosts.answers(named("alias", config), 10)
    assert server.log.read_text().count("Accepted publickey") == before


def test_the_inventory_has_the_last_word_as_it_has_with_pyinfra(server: Sshd, config: Path) -> None:
    given = {"ssh_hostname": "127.0.0.1", "ssh_port": server.port, "ssh_key": str(server.key)}
    assert hosts.answers(named("gone", config, **given), 10)
    assert not hosts.answers(named("alias", config, ssh_port=free_port()), 10)


@pytest.mark.parametrize("name", ["alias", "behind"])
def test_pyinfra_reaches_the_same_hosts_by_the_same_configuration(name: str, server: Sshd, config: Path) -> None:
    client = SSHClient()
    # as pyinfra's connector calls it for a host without other data
    client.connect(name, _pyinfra_ssh_config_file=str(config), allow_agent=False, look_for_keys=False)
    _, out, _ = client.exec_command("echo there")
    assert out.read() == b"there\n"
    client.close()


def test_a_cluster_of_such_names_is_up_on_the_screen(server: Sshd, config: Path) -> None:
    usual = cluster(store_engine="etcd")
    ours = {"ssh_config_file": str(config), "ssh_user": getpass.getuser()}
    alias, jump, down = (ours | {"ssh_hostname": name} for name in ("alias", "behind", "gone"))
    theirs = {"proxy1": alias, "proxy2": jump}
    made = {
        name: Host(name, host.address, host.groups, host.data | theirs.get(name, down))
        for name, host in usual.hosts.items()
    }
    seen = {host["name"]: host["state"] for host in status.gather(Cluster(made, usual.data), 20)["hosts"]}
    assert seen.pop("proxy1") == seen.pop("proxy2") == "up"
    assert set(seen.values()) == {"down"}
