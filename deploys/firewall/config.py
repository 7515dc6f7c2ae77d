"""Who may reach which port: one table, and the nftables ruleset of a host made from it. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cluster.model import SLOTS, Cluster, Host, ssh_port
from cluster.settings import ports
from deploys.framework.render import render
from deploys.framework.tree import File, Present

HERE = Path(__file__).parent
UNIT = "griddle-firewall.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
PROGRAM = "/usr/local/sbin/griddle-firewall"
KEPT = "/etc/griddle/firewall.nft"  # what is loaded at boot; PROGRAM alone writes it, after a trial
DEBIANS_CONF = "/etc/nftables.conf"  # ours until there was a unit of our own
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


def ruleset(cluster: Cluster, host: Host) -> str:
    """The host's table, as nft reads it."""
    groups = {*host.groups, *(["etcd"] if host in leaving_etcd(cluster) else [])}
    mine = [ssh(host), *(flow for flow in flows(cluster) if flow.to in groups)]
    return render(HERE / "templates" / "firewall.nft.j2", host=host, flows=mine)


def files() -> dict[str, File]:
    """What loads the table at boot, and what tries a new one."""
    return {
        UNIT_FILE: File((HERE / "files" / UNIT).read_text()),
        PROGRAM: File((HERE / "files" / "griddle-firewall").read_text(), "755"),
    }


def in_force(look: Iterable[str], wanted: str) -> bool:
    """Whether the wanted ruleset is kept, and the kernel has what it had when that was loaded.

    :param look: lines of `griddle-firewall look`; none where it is not installed
    """
    seen = _looked(look)
    kept = hashlib.sha256(wanted.encode()).hexdigest()
    return seen.get("kept") == kept and bool(seen.get("live")) and seen["live"] == seen.get("loaded")


def kept(look: Iterable[str]) -> dict[str, Present]:
    """What a host has at KEPT; PROGRAM writes it as everybody's to read."""
    sha256 = _looked(look).get("kept")
    return {KEPT: Present("f", "644", "root", "root", sha256=sha256)} if sha256 else {}


def _looked(look: Iterable[str]) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in look if " " in line)


def shut_out(flow: Flow, connection: str) -> str:
    """Why the operator's own connection would not get in again; "" if it would.

    :param flow: how ssh gets in
    :param connection: the host's $SSH_CONNECTION: the address and port that it comes from (of the last jump host,
        where there is one), the address and port that it came to
    """
    match connection.split():
        case [peer, _, _, port]:
            if not flow.accepts(peer, int(port)):
                accepted = f"{', '.join(flow.sources)} to port {', '.join(map(str, flow.ports))}"
                return (
                    f"this run comes from {peer} to port {port}, and the new rules accept ssh from {accepted}: "
                    "mend firewall_ssh_from, ssh_port or firewall_ssh_port"
                )
    return ""
