"""The lab's network: one bridge with NAT to the outside. Everything here needs root, except the looking."""

from __future__ import annotations

import json
import subprocess
from ipaddress import IPv4Network, ip_interface
from pathlib import Path

from cluster.errors import Failure
from ops.lab.plan import LabHost, LabPlan
from ops.process import run

_SYS = Path("/sys/class/net")
_IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_MARK = "griddle "


def taken_subnets() -> list[IPv4Network]:
    """Networks that this machine has an address in or a route to."""
    routes = json.loads(run("ip", "-json", "-4", "route", "show", "table", "all"))
    addresses = json.loads(run("ip", "-json", "-4", "address"))
    found = [route["dst"] for route in routes if route["dst"] != "default"]
    found += [f"{one['local']}/{one['prefixlen']}" for link in addresses for one in link["addr_info"]]
    networks = {ip_interface(text).network for text in found}
    return sorted(network for network in networks if isinstance(network, IPv4Network))


def forwarding() -> str:
    """The machine's ip_forward: "0" or "1"."""
    return _IP_FORWARD.read_text().strip()


def bridges(checkout: Path) -> list[str]:
    """Bridges that belong to this checkout: each carries its path as its alias."""
    return [link for link, alias in _aliases().items() if alias == _alias(checkout)]


def other_labs(checkout: Path) -> bool:
    """Whether another checkout has a lab on this machine."""
    return any(alias.startswith(_MARK) and alias != _alias(checkout) for alias in _aliases().values())


def _aliases() -> dict[str, str]:
    found = {}
    for link in _SYS.iterdir():
        try:
            found[link.name] = (link / "ifalias").read_text().strip()
        except OSError:  # not an interface, or gone meanwhile
            continue
    return found


def _alias(checkout: Path) -> str:
    return f"{_MARK}{checkout}"[:255]


def _mac(plan: LabPlan) -> str:
    """A bridge without an address of its own takes its ports' lowest one, and changes it as they come and go."""
    return "02:67:72:" + ":".join(f"{int(octet):02x}" for octet in plan.gateway.split(".")[1:])


def _half_made(plan: LabPlan) -> bool:
    """Whether an `up` was killed between making the bridge and naming its owner: the kernel takes no alias for a
    link that it makes, but its address.
    """
    link = _SYS / plan.bridge
    return not (link / "ifalias").read_text().strip() and (link / "address").read_text().strip() == _mac(plan)


def interface(host: LabHost) -> str:
    """The bridge's end of the host's cable, as systemd-nspawn names it."""
    return f"vb-{host.machine}"


def attached(host: LabHost) -> bool:
    """Whether the host's cable is in the bridge."""
    return (_SYS / interface(host) / "master").exists()


def up(checkout: Path, plan: LabPlan) -> None:
    """Bridge, NAT and forwarding; changes nothing that is there already."""
    if not (_SYS / plan.bridge).exists():
        run("ip", "link", "add", plan.bridge, "address", _mac(plan), "type", "bridge")
    elif plan.bridge not in bridges(checkout) and not _half_made(plan):
        raise Failure(f"there is an interface {plan.bridge} that is not this lab's: ./griddle down, then up again")
    run("ip", "link", "set", plan.bridge, "alias", _alias(checkout))
    run("ip", "address", "replace", f"{plan.gateway}/24", "dev", plan.bridge)
    run("ip", "link", "set", plan.bridge, "up")
    _nft(f"""
        add table ip {plan.table}
        flush table ip {plan.table}
        add chain ip {plan.table} postrouting {{ type nat hook postrouting priority srcnat; }}
        add rule ip {plan.table} postrouting ip saddr {plan.subnet} ip daddr != {plan.subnet} masquerade
    """)
    forward = _forward_rules()
    if "policy drop" in forward and plan.table not in forward:
        for end in ("iifname", "oifname"):
            _nft(f'insert rule ip filter FORWARD {end} {plan.bridge} accept comment "{plan.table}"')
    _IP_FORWARD.write_text("1")


def down(checkout: Path, names: set[str], restore_forwarding: str | None) -> None:
    """Removes what `up` made. `names` are the lab's bridges, tables after them."""
    for name in names:
        table = f"griddle_{name}"
        if subprocess.run(["nft", "list", "table", "ip", table], capture_output=True).returncode == 0:
            run("nft", "delete", "table", "ip", table)
        for line in _forward_rules().splitlines():
            if f'comment "{table}"' in line:
                run("nft", "delete", "rule", "ip", "filter", "FORWARD", "handle", line.rpartition(" ")[2])
        if (_SYS / name).exists():
            run("ip", "link", "delete", name)
    if restore_forwarding is not None and not other_labs(checkout):
        _IP_FORWARD.write_text(restore_forwarding)


def cut(host: LabHost) -> None:
    """Pulls the cable at the switch: the host sees its link up and hears nothing, as when a switch fails."""
    run("ip", "link", "set", interface(host), "nomaster")


def heal(plan: LabPlan, host: LabHost) -> None:
    """Puts the cable back."""
    run("ip", "link", "set", interface(host), "master", plan.bridge)


def _forward_rules() -> str:
    """The chain in which container engines forbid all forwarding but their own; empty where there is none.

    With their br_netfilter it also decides on packets from one host of the lab to another.
    """
    shown = subprocess.run(
        ["nft", "--handle", "list", "chain", "ip", "filter", "FORWARD"], capture_output=True, text=True
    )
    return shown.stdout


def _nft(script: str) -> None:
    run("nft", "--file", "-", stdin=script)
