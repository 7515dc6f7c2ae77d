"""What a lab consists of: a pure function of the checkout's path, the store and a choice of subnet."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

# name, groups, last octet of the address
_HOSTS = (
    ("proxy1", ("proxies",), 11),
    ("proxy2", ("proxies",), 12),
    ("app1", ("apps", "etcd"), 21),
    ("app2", ("apps", "etcd"), 22),
    ("app3", ("apps", "etcd"), 23),
    ("fdb1", ("fdb",), 31),
    ("fdb2", ("fdb",), 32),
    ("fdb3", ("fdb",), 33),
    ("fdb4", ("fdb",), 34),
    ("fdb5", ("fdb",), 35),
    ("metrics1", ("metrics",), 41),
)
_GATEWAY = 1
_VIRTUAL = 10
# 10.64.0.0/10: home networks, VPNs and container engines mostly take their subnets from the ends of 10.0.0.0/8.
_FIRST, _SUBNETS = 64 << 8, 64 << 8


@dataclass(frozen=True)
class LabHost:
    """One host: name and groups as in the inventory, and its container's name, unique on this machine."""

    name: str
    groups: tuple[str, ...]
    address: str
    machine: str


@dataclass(frozen=True)
class LabPlan:
    """A lab. Its name is its subnet's two middle octets, so that one subnet cannot have two labs."""

    name: str
    bridge: str
    subnet: str
    gateway: str
    virtual_ip: str
    hosts: tuple[LabHost, ...]

    def host(self, name: str) -> LabHost | None:
        return next((host for host in self.hosts if host.name == name), None)

    @property
    def table(self) -> str:
        """The name of the lab's nftables table."""
        return f"griddle_{self.name}"


def further_host(name: str) -> int | None:
    """The last octet of a host beside the usual ones, fdb6 to fdb9 and etcd1 to etcd5; None for any other."""
    if match := re.fullmatch(r"fdb([6-9])", name):
        return 30 + int(match[1])
    match = re.fullmatch(r"etcd([1-5])", name)
    return 50 + int(match[1]) if match else None


def _groups(groups: tuple[str, ...], moved: str | None) -> tuple[str, ...]:
    """A host's groups after `lab move`: etcd is beside what a host has else, fdb and spare are all that it has."""
    rest = tuple(group for group in groups if group != "etcd")
    if moved in ("etcd", "no-etcd"):
        return (*rest, "etcd") if moved == "etcd" else rest or ("spare",)
    return (moved,) if moved else groups


def lab_plan(
    checkout: Path, with_fdb: bool, candidate: int = 0, moved: Mapping[str, str] | None = None
) -> LabPlan:
    """The lab of this checkout: the same for the same path.

    `candidate` steps to another subnet, where the first is taken by something else on this machine. `moved`: hosts
    in other groups than usual (fdb, spare, etcd, no-etcd), and further ones.
    """
    moved = moved or {}
    further = tuple((name, (), octet) for name in sorted(moved) if (octet := further_host(name)))
    digest = hashlib.sha256(str(checkout).encode()).digest()
    middle = _FIRST + (int.from_bytes(digest[:4]) + candidate) % _SUBNETS
    prefix = f"10.{middle >> 8}.{middle & 255}"
    name = f"g{middle:04x}"
    return LabPlan(
        name=name,
        bridge=name,
        subnet=f"{prefix}.0/24",
        gateway=f"{prefix}.{_GATEWAY}",
        virtual_ip=f"{prefix}.{_VIRTUAL}",
        # The container's interface on the bridge is `vb-` and the machine's name, in at most 15 characters.
        hosts=tuple(
            LabHost(host, _groups(groups, moved.get(host)), f"{prefix}.{octet}", f"{name}-{octet}")
            for host, groups, octet in _HOSTS + further
            if with_fdb or "fdb" not in groups
        ),
    )


def free_candidate(checkout: Path, taken: list[IPv4Network]) -> int | None:
    """The first candidate whose subnet overlaps none of `taken`; None where there is none."""
    for candidate in range(_SUBNETS):
        subnet = IPv4Network(lab_plan(checkout, False, candidate).subnet)
        if not any(subnet.overlaps(network) for network in taken):
            return candidate
    return None
