"""Who may reach which port: one table, and the nftables ruleset of a host made from it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploys.config import ports
from deploys.model import SLOTS, Cluster, Host
from deploys.render import render
from deploys.tree import File

TEMPLATE = Path(__file__).parent / "templates" / "nftables.conf.j2"
ANYWHERE = ("0.0.0.0/0",)
VRRP = 112


@dataclass(frozen=True)
class Flow:
    """Hosts in group ``to`` accept ``what`` from ``sources`` (IPv4 addresses or networks)."""

    to: str
    comment: str
    sources: tuple[str, ...]
    ports: tuple[int, ...] = ()  # of TCP
    protocol: int = 6  # IP protocol number, where it has no ports

    @property
    def match(self) -> str:
        """The nftables expression."""
        source = "" if self.sources == ANYWHERE else f"ip saddr {_set(self.sources)} "
        what = f"tcp dport {_set(self.ports)}" if self.ports else f"ip protocol {self.protocol}"
        return f"{source}{what}"


def _set(items: Sequence[object]) -> str:
    return "{ " + ", ".join(str(item) for item in items) + " }"


def flows(cluster: Cluster) -> list[Flow]:
    """Every flow into the cluster's hosts. What is not here is dropped."""
    data = cluster.data

    def of(*groups: str) -> tuple[str, ...]:
        return tuple(sorted(host.address for host in cluster.groups(groups)))

    apps = cluster.group("apps")
    workers = {
        what: tuple(sorted({p for app in apps for slot in SLOTS for p in ports(app, what, slot)}))
        for what in ("store", "front")
    }
    processes = max((len(host.data["fdb_process_classes"]) for host in cluster.group("fdb")), default=0)
    fdb = tuple(data["fdb_port"] + process for process in range(processes))
    every = tuple(sorted(host.address for host in cluster.hosts.values()))
    table = [
        Flow("all", "ssh", tuple(data["firewall_ssh_from"]), (data["firewall_ssh_port"],)),
        Flow("proxies", "http", ANYWHERE, (data["proxy_port"],)),
        Flow("proxies", "vrrp between proxies", of("proxies"), protocol=VRRP),
        Flow("apps", "store workers, from proxies", of("proxies"), workers["store"]),
        Flow("apps", "front workers, from proxies", of("proxies"), workers["front"]),
        Flow("etcd", "etcd clients", of("apps", "proxies", "metrics", "etcd"), (data["etcd_client_port"],)),
        Flow("etcd", "etcd peers", of("etcd"), (data["etcd_peer_port"],)),
        Flow("fdb", "foundationdb", of("fdb", "spare", "apps", "metrics"), fdb),
        # one that is being emptied is still a part of the database
        Flow("spare", "foundationdb", of("fdb", "spare", "apps", "metrics"), fdb),
        Flow("metrics", "graphite lines", every, (data["metrics_graphite_port"],)),
        Flow("metrics", "board", tuple(data["metrics_board_from"]), (data["metrics_board_port"],)),
    ]
    return [flow for flow in table if flow.sources]


def files(cluster: Cluster, host: Host) -> dict[str, File]:
    """The host's ruleset."""
    mine = [flow for flow in flows(cluster) if flow.to == "all" or flow.to in host.groups]
    return {"/etc/nftables.conf": File(render(TEMPLATE, host=host, flows=mine), "755")}
