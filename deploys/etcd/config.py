"""etcd's files: pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from cluster.model import Cluster, Host
from cluster.pki import places
from cluster.pki.authority import Authority
from deploys.framework.render import render
from deploys.framework.tree import File

TEMPLATES = Path(__file__).parent / "templates"
CONF = "/etc/etcd/etcd.yaml"
DATA = "/var/lib/etcd"  # holds a directory named after the cluster
SNAPSHOTS = "/var/lib/etcd-snapshots"
ASIDE = "/var/lib/etcd-aside"  # the data that a host had last when it was taken out or restored
RESTORE = "/var/lib/etcd-restore"  # what a restore brings and notes, until its end
UNIT = "etcd.service"
TIMER = "griddle-etcd-snapshot.timer"
# The unit starts with CONF, which never begins a cluster; with FIRST_CONF as long as FIRST says so: until it has
# once served, or the host has booted.
FIRST = "/run/griddle-etcd/first"
FIRST_CONF = "/run/griddle-etcd/first.yaml"


def member_files(cluster: Cluster, host: Host, authority: Authority) -> dict[str, File]:
    """Everything that a member needs."""
    values = {"cluster": cluster, "host": host, "pki": places.ETCD, "conf": CONF, "first": FIRST}
    pair = authority.certificate(host.name, host.address)
    return {
        f"{places.ETCD}/ca.crt": File(authority.bundle(), "644"),
        f"{places.ETCD}/member.crt": File(pair.certificate, "644"),
        f"{places.ETCD}/member.key": File(pair.key, "600", "etcd", "etcd"),
        CONF: File(render(TEMPLATES / "etcd.yaml.j2", **values)),
        f"/etc/systemd/system/{UNIT}": File(render(TEMPLATES / "etcd.service.j2", **values)),
        "/etc/systemd/system/griddle-etcd-snapshot.service": File(
            render(TEMPLATES / "griddle-etcd-snapshot.service.j2", **values)
        ),
        f"/etc/systemd/system/{TIMER}": File(render(TEMPLATES / "griddle-etcd-snapshot.timer.j2", **values)),
        "/usr/local/sbin/griddle-etcd-snapshot": File(
            render(TEMPLATES / "griddle-etcd-snapshot.j2", **values), "755"
        ),
        "/usr/local/sbin/griddle-etcd-validate": File((TEMPLATES / "griddle-etcd-validate").read_text(), "755"),
        "/usr/local/sbin/griddle-etcdctl": File(render(TEMPLATES / "griddle-etcdctl.j2", **values), "755"),
    }


def peers(hosts: Iterable[Host]) -> dict[str, str]:
    """{host: its peers' address as member lists spell it}."""
    return {host.name: f"{host.address}:{host.data['etcd_peer_port']}" for host in hosts}


def token(cluster: str, restored: str = "") -> str:
    """What a cluster's id is made of, with its first members; a restored one is another than before."""
    return f"griddle-{cluster}{restored and f'-{restored}'}"


def initial_cluster(members: Mapping[str, str]) -> str:
    """etcd's spelling of {name: host:port}."""
    return ",".join(f"{name}=https://{peer}" for name, peer in members.items())


def same_members(cluster: Cluster) -> str:
    """A shell command: this host's member list is the group. Two clusters are each healthy by themselves."""
    wanted = " ".join(sorted(f"https://{peer}" for peer in peers(cluster.group("etcd")).values()))
    seen = "griddle-etcdctl member list | cut -d, -f4 | tr -d ' ' | LC_ALL=C sort | tr '\\n' ' '"
    return f'seen=$({seen}); echo "$seen"; [ "$seen" = {shlex.quote(f"{wanted} ")} ]'


def first_start(cluster: str, members: Mapping[str, str], state: str) -> str:
    """A shell script: etcd's next start here is its first, as one of these members. Nothing where it has data.

    :param members: {name: host:port}, this host's own among them
    :param state: new (it begins a cluster) or existing (it was added to one)
    """
    lines = [
        f"initial-cluster: {initial_cluster(members)}",
        f"initial-cluster-token: {token(cluster)}",
        f"initial-cluster-state: {state}",
    ]
    data = f"{DATA}/{shlex.quote(cluster)}"
    added = " ".join(shlex.quote(line) for line in lines)
    return (
        f"ls {data}/member/wal/*.wal >/dev/null 2>&1 || {{\n"
        f"rm -rf {data}/member\n"  # what an etcd has left that was not told with whom to start
        f"install -d -m 755 {PurePosixPath(FIRST).parent}\n"
        f"{{ grep -v '^initial-cluster' {CONF}; printf '%s\\n' {added}; }} > {FIRST_CONF}\n"
        f"chmod 644 {FIRST_CONF}\n"
        f"echo CONF={FIRST_CONF} > {FIRST}\n}}"
    )


def put_aside(cluster: str) -> str:
    """A shell script: etcd does not run here, nor at boot, and its data is in ASIDE."""
    data = f"{DATA}/{shlex.quote(cluster)}"
    return (
        f"systemctl disable --now --quiet {UNIT} {TIMER} 2>/dev/null || true\n"
        f"! systemctl is-active --quiet {UNIT}\nrm -f {FIRST}\n"
        f"if [ -d {data} ]; then rm -rf {ASIDE}; install -d -m 700 {ASIDE}; mv {data} {ASIDE}/; fi"
    )


def client_files(host: Host, authority: Authority) -> dict[str, File]:
    """What a host needs to talk to etcd; services read it as group griddle."""
    pair = authority.certificate(host.name, host.address, "client")
    return {
        f"{places.SERVICES}/ca.crt": File(authority.bundle(), "644"),
        f"{places.SERVICES}/client.crt": File(pair.certificate, "644"),
        f"{places.SERVICES}/client.key": File(pair.key, "640", "root", "griddle"),
    }
