"""etcd's files: pure."""

from __future__ import annotations

from pathlib import Path

from deploys.config import PKI
from deploys.model import Cluster, Host
from deploys.render import render
from deploys.tree import File
from ops.authority import Authority

TEMPLATES = Path(__file__).parent / "templates"
ETCD_PKI = "/etc/etcd/pki"
CONF = "/etc/etcd/etcd.yaml"
DATA = "/var/lib/etcd"  # holds a directory named after the cluster
SNAPSHOTS = "/var/lib/etcd-snapshots"


def member_files(cluster: Cluster, host: Host, authority: Authority) -> dict[str, File]:
    """Everything that a member needs."""
    values = {"cluster": cluster, "host": host, "pki": ETCD_PKI}
    pair = authority.certificate(host.name, host.address)
    return {
        f"{ETCD_PKI}/ca.crt": File(authority.bundle(), "644"),
        f"{ETCD_PKI}/member.crt": File(pair.certificate, "644"),
        f"{ETCD_PKI}/member.key": File(pair.key, "600", "etcd", "etcd"),
        CONF: File(render(TEMPLATES / "etcd.yaml.j2", **values)),
        "/etc/systemd/system/etcd.service": File(render(TEMPLATES / "etcd.service.j2", **values)),
        "/etc/systemd/system/griddle-etcd-snapshot.service": File(
            render(TEMPLATES / "griddle-etcd-snapshot.service.j2", **values)
        ),
        "/etc/systemd/system/griddle-etcd-snapshot.timer": File(
            render(TEMPLATES / "griddle-etcd-snapshot.timer.j2", **values)
        ),
        "/usr/local/sbin/griddle-etcd-snapshot": File(
            render(TEMPLATES / "griddle-etcd-snapshot.j2", **values), "755"
        ),
        "/usr/local/sbin/griddle-etcd-validate": File((TEMPLATES / "griddle-etcd-validate").read_text(), "755"),
        "/usr/local/sbin/griddle-etcdctl": File(render(TEMPLATES / "griddle-etcdctl.j2", **values), "755"),
    }


def client_files(host: Host, authority: Authority) -> dict[str, File]:
    """What a host needs to talk to etcd; services read it as group griddle."""
    pair = authority.certificate(host.name, host.address, "client")
    return {
        f"{PKI}/ca.crt": File(authority.bundle(), "644"),
        f"{PKI}/client.crt": File(pair.certificate, "644"),
        f"{PKI}/client.key": File(pair.key, "640", "root", "griddle"),
    }
