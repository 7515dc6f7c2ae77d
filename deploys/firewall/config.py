"""Who may reach which port: one table, and the nftables ruleset of a host made from it. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deploys.config import ports
from deploys.model import SLOTS, Cluster, Host, ssh_port
from deploys.render import render
from deploys.tree import File

TEMPLATE = Path(__file__).parent / "templates" / "nftables.conf.j2"
ANYWHERE = ("0.0.0.0/0",)
VRRP = 112


@dataclass(frozen=True)
class Flow:
    """Hosts in group ``to`` accept it from ``sources`` (addresses or networks)."""

    to: str
    comment: str
    sources: tuple[str, ...]
    ports: tuple[int, ...] = ()  # of TCP
    protocol: int = 6  # IP protocol number, where it has no ports

    @property
    def matches(self) -> list[str]:
        """The nftables expressions: one, or one for each version of IP."""
        what = f"tcp dport {_set(self.ports)}" if self.ports else f"ip protocol {self.protocol}"
        networks = self.networks()
        if any(network.prefixlen == 0 for network in networks):
            return [what]
        by_version: dict[str, list[str]] = {"ip": [], "ip6": []}
        for network in networks:
            one = network.prefixlen == network.max_prefixlen
            by_version["ip6" if network.version == 6 else "ip"].append(str(network[0] if one else network))
        return [f"{ip} saddr {_set(found)} {what}" for ip, found in by_version.items() if found]

    def networks(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """The sources, none within another: nft refuses a set whose intervals overlap."""
        found = list(dict.fromkeys(ipaddress.ip_network(source) for source in self.sources))
        return [
            n for n in found
            if not any(n != other and n.version == other.version and n.subnet_of(other) for other in found)
        ]  # fmt: skip

    def accepts(self, address: str, port: int) -> bool:
        """Whether a TCP connection from an address to a port gets in by it."""
        peer = ipaddress.ip_address(address.partition("%")[0])
        peer = getattr(peer, "ipv4_mapped", None) or peer
        networks = self.networks()
        return port in self.ports and any(peer in n or n.prefixlen == 0 for n in networks)


def _set(items: Iterable[object]) -> str:
    return "{ " + ", ".join(str(item) for item in items) + " }"


def flows(cluster: Cluster) -> list[Flow]:
    """Every flow into the cluster's hosts, but ssh. What is not here is dropped."""
    data = cluster.data

    def of(*groups: str) -> tuple[str, ...]:
        return tuple(sorted(host.address for host in cluster.groups(groups)))

    # One that `./griddle etcd replace` or `remove` is taking out is a member until then.
    leaving = {host.address for host in leaving_etcd(cluster)}
    members = tuple(sorted({*of("etcd"), *leaving}))
    apps = cluster.group("apps")
    workers = {
        what: tuple(sorted({p for app in apps for slot in SLOTS for p in ports(app, what, slot)}))
        for what in ("store", "front")
    }
    processes = max((len(host.data["fdb_process_classes"]) for host in cluster.group("fdb")), default=0)
    fdb = tuple(data["fdb_port"] + process for process in range(processes))
    every = tuple(sorted(host.address for host in cluster.hosts.values()))
    table = [
        Flow("proxies", "http", ANYWHERE, (data["proxy_port"],)),
        Flow("proxies", "vrrp between proxies", of("proxies"), protocol=VRRP),
        Flow("apps", "store workers, from proxies", of("proxies"), workers["store"]),
        Flow("apps", "front workers, from proxies", of("proxies"), workers["front"]),
        Flow(
            "etcd",
            "etcd clients",
            tuple(sorted({*of("apps", "proxies", "metrics"), *members})),
            (data["etcd_client_port"],),
        ),
        Flow("etcd", "etcd peers", members, (data["etcd_peer_port"],)),
        Flow("fdb", "foundationdb", of("fdb", "spare", "apps", "metrics"), fdb),
        # one that is being emptied is still a part of the database
        Flow("spare", "foundationdb", of("fdb", "spare", "apps", "metrics"), fdb),
        Flow("metrics", "graphite lines", every, (data["metrics_graphite_port"],)),
        Flow("metrics", "board", tuple(data["metrics_board_from"]), (data["metrics_board_port"],)),
    ]
    return [flow for flow in table if flow.sources]


def ssh(host: Host) -> Flow:
    """How operators get in; of each host, because their ports may differ."""
    return Flow("all", "ssh", tuple(host.data["firewall_ssh_from"]), (ssh_port(host),))


def leaving_etcd(cluster: Cluster) -> list[Host]:
    """Hosts that deploys/etcd_members.py is asked to take out."""
    names = str(cluster.data.get("etcd_leave") or "").split(",")
    return [host for host in cluster.hosts.values() if host.name in names]


def files(cluster: Cluster, host: Host) -> dict[str, File]:
    """The host's ruleset."""
    groups = {*host.groups, *(["etcd"] if host in leaving_etcd(cluster) else [])}
    mine = [ssh(host), *(flow for flow in flows(cluster) if flow.to in groups)]
    return {"/etc/nftables.conf": File(render(TEMPLATE, host=host, flows=mine), "755")}
