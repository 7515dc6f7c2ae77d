"""The lab: the cluster's hosts as systemd containers on this machine, reached by SSH as any other host.

- plan.py: what it consists of (pure); state.py: what it keeps in .griddle/lab
- image.py: the tree that disks lie upon; network.py: bridge, NAT, cables; machine.py: one host's disk and life
- root.py: the verbs, as root; here: what needs no root
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cluster.errors import UserError
from cluster.progress import say
from cluster.table import aligned
from ops.lab import machine, network, state
from ops.lab.plan import LabHost, LabPlan, further_host, lab_plan
from ops.lab.state import LabFiles

SSH_FAILED = 255  # ssh's own exit code where it did not get through

_TOOLS = {
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "ssh": "openssh-client",
    "systemd-nspawn": "systemd-container",
}


def unavailable() -> str | None:
    """Why containers cannot run on this machine; None where they can."""
    if forbidden := set(",:\\") & set(str(Path.cwd())):
        return f"the checkout's path has {' '.join(sorted(forbidden))} in it, which overlay mounts cannot take"
    missing = [package for tool, package in _TOOLS.items() if shutil.which(tool, path=_path()) is None]
    if missing:
        return f"Debian packages are missing: {' '.join(missing)}"
    if os.geteuid() and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode:
        return "containers need root, and sudo asks for a password here"
    overlay = "mkdir a b c d && mount -t overlay o -o lowerdir=a,upperdir=b,workdir=c,volatile d"
    probe = f"{overlay} && ip link add br0 type bridge"
    sudo = ["sudo", "-n"] if os.geteuid() else []
    script = f'cd "$(mktemp -d -p "$1")" && trap "rm -rf $PWD" EXIT && unshare --mount --net sh -c "{probe}"'
    state_directory = Path.cwd() / ".griddle"
    state_directory.mkdir(exist_ok=True)
    tried = subprocess.run([*sudo, "sh", "-c", script, "sh", str(state_directory)], capture_output=True, text=True)
    if tried.returncode:
        return f"no mount and network namespaces with overlay and bridge here: {tried.stderr.strip()}"
    return None


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def current_plan(checkout: Path) -> LabPlan:
    """The plan of the checkout's lab; UserError where it has none."""
    plan = state.plan(checkout)
    if plan is None:
        raise UserError("there is no lab here: ./griddle up")
    return plan


def status(checkout: Path) -> dict[str, Any]:
    """{"virtual_ip", "store", "hosts": [{"name", "groups", "address", "state"}]}, found by looking.

    state: running, booting (no sshd yet), cut (off the network), stopped, absent (no disk yet). Without a lab its
    hosts are absent, and virtual_ip and store null.
    """
    lab = state.read(checkout)
    plan = state.plan(checkout) or lab_plan(checkout, with_fdb=True)
    files = LabFiles(checkout)
    alive = machine.running(files)

    def look(host: LabHost) -> str:
        if host.name in alive:
            if not network.attached(host):
                return "cut"
            return "running" if machine.answers(host) else "booting"
        return "stopped" if (files.host(host.name) / "complete").exists() else "absent"

    with ThreadPoolExecutor(len(plan.hosts)) as pool:
        states = list(pool.map(look, plan.hosts))
    return {
        "virtual_ip": plan.virtual_ip if lab else None,
        "store": lab.store if lab else None,
        "hosts": [
            {"name": host.name, "groups": list(host.groups), "address": host.address, "state": seen}
            for host, seen in zip(plan.hosts, states, strict=True)
        ],
    }


def print_status(checkout: Path, as_json: bool) -> None:
    """`status`, for people or as one JSON document."""
    found = status(checkout)
    if as_json:
        print(json.dumps(found, indent=2))
    elif found["store"] is None:
        print("there is no lab here: ./griddle up")
    else:
        print(f"virtual ip {found['virtual_ip']}, store {found['store']}")
        rows = [
            (host["name"], host["address"], host["state"], " ".join(host["groups"])) for host in found["hosts"]
        ]
        print(aligned(rows, left=range(4)))


def ssh_command(checkout: Path, host: LabHost) -> list[str]:
    """`ssh` to a host as the deploy user, with the lab's own key and known hosts and nobody's settings."""
    files = LabFiles(checkout)
    options = {
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": str(files.known_hosts),
        "StrictHostKeyChecking": "yes",
        "ConnectTimeout": "5",
        "LogLevel": "ERROR",
    }
    settings = [item for name, value in options.items() for item in ("-o", f"{name}={value}")]
    return ["ssh", "-F", "none", "-i", str(files.key), *settings, f"deploy@{host.address}"]


def ssh(checkout: Path, name: str, command: Sequence[str]) -> int:
    """A shell or a command on a host; returns its exit code, 255 where the host is not reached."""
    plan = current_plan(checkout)
    host = plan.host(name)
    if host is None:
        raise UserError(f"no host {name} in this lab: it has {', '.join(one.name for one in plan.hosts)}")
    code = subprocess.run([*ssh_command(checkout, host), *command]).returncode
    if code == SSH_FAILED:
        seen = next(one["state"] for one in status(checkout)["hosts"] if one["name"] == name)
        help_by = {"stopped": "start", "cut": "heal"}
        advice = f": ./griddle lab {help_by[seen]} {name}" if seen in help_by else ""
        say(f"griddle: {name} is {seen}{advice}")
    return code


def act(checkout: Path, verb: str, names: Sequence[str]) -> None:
    """stop, start, cut or heal."""
    from ops.lab.root import as_root

    current_plan(checkout)
    as_root(checkout, verb, *names)
    for host in status(checkout)["hosts"]:
        if host["name"] in names:
            say(f"{host['name']} is {host['state']}")


def move(checkout: Path, name: str, group: str) -> None:
    """Put a host into a group of the lab's inventory, or out of etcd's; a further one (fdb6, etcd1) is made."""
    from ops.lab.root import as_root

    with state.locked(checkout, "lab move"):
        plan, lab = current_plan(checkout), state.read(checkout)
        host = plan.host(name)
        of_fdb = name.startswith("fdb")
        if not (host or further_host(name)) or (group in ("fdb", "spare")) != of_fdb:
            raise UserError(
                f"{name} cannot be moved to {group}: fdb1 to fdb9 can to fdb or spare, other hosts and etcd1 to "
                "etcd5 into etcd or out of it (no-etcd)"
            )
        if of_fdb and lab.store != "fdb":
            raise UserError(f"{name} cannot be moved: this lab has no FoundationDB")
        moved = {**lab.moved, name: group}
        usual = lab_plan(checkout, with_fdb=True).host(name)
        if usual and lab_plan(checkout, True, moved=moved).host(name).groups == usual.groups:
            del moved[name]  # back where it was
        state.write(checkout, dataclasses.replace(lab, moved=moved))
        if host is None:
            as_root(checkout, "start", name)
    say(f"{name} is in {' and '.join(current_plan(checkout).host(name).groups)} of inventory/lab.py")


def down(checkout: Path) -> None:
    """Remove the lab, whatever is left of it."""
    from ops.lab.root import as_root

    with state.locked(checkout, "down"):
        as_root(checkout, "down")
