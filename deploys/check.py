"""Bad input is found here, before any host is touched: one line per problem, exit code 2."""

from __future__ import annotations

import difflib
import ipaddress
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import click

from deploys import model, releases
from deploys.backup import config as backup
from deploys.foundationdb import config as foundationdb
from deploys.metrics import config as metrics
from deploys.model import Cluster
from ops.errors import UserError
from tuning import profiles

# Coordinators for surviving R - 1 failures: 2R - 1, each on a machine of its own.
# FoundationDB documentation, administration.rst.
COORDINATORS = {"single": 1, "double": 3, "triple": 5}

# What deploys/fdb_*.py are asked to do, by --data alone.
OPERATIONS_KEYS = {"join", "leave", "coordinators", "backup", "to_version", "to_time", "replace_data"}

COMPONENTS = {path.parent.name for path in Path(__file__).parent.glob("*/deploy.py")} | {"smoke"}


def problems(cluster: Cluster) -> list[str]:
    """What is wrong with a cluster's hosts and data, as lines for the operator; empty if nothing is."""
    found = [*_hosts(cluster), *_groups(cluster)]
    return found or [*_data(cluster)]


def _hosts(cluster: Cluster) -> list[str]:
    found, by_address = [], defaultdict(list)
    for host in cluster.hosts.values():
        try:
            ipaddress.IPv4Address(host.address)
        except ValueError:
            found.append(f"host {host.name}: address {host.address!r} is not an IPv4 address")
            continue
        by_address[host.address].append(host.name)
    found += [
        f"address {address} belongs to {' and '.join(names)}; every host needs its own"
        for address, names in by_address.items()
        if len(names) > 1
    ]
    if (virtual := cluster.data.get("proxy_virtual_ip")) in by_address:
        found.append(f"proxy_virtual_ip {virtual} is the address of {by_address[virtual][0]}")
    return found


def _groups(cluster: Cluster) -> list[str]:
    found = []
    count = {name: len(cluster.group(name)) for name in model.GROUPS}
    if count["etcd"] % 2 == 0:
        found.append(f"group etcd has {count['etcd']} members; an odd number keeps a majority (3 or 5)")
    found += [f"group {name} has no host" for name in ("proxies", "apps") if not count[name]]
    found += [
        f"host {host.name} is in the groups fdb and spare; it is part of the database or not"
        for host in cluster.group("spare")
        if "fdb" in host.groups
    ]
    found += [
        f"host {host.name} is in proxies and in metrics; nginx serves reads there or the board, not both"
        for host in cluster.group("proxies")
        if "metrics" in host.groups
    ]
    if count["metrics"] != 1:
        found.append(f"group metrics has {count['metrics']} hosts; exactly 1 is needed")
    return found


def _data(cluster: Cluster) -> list[str]:
    data, found = cluster.data, []
    engine = data.get("store_engine")
    if engine not in model.ENGINES:
        found.append(f"store_engine {engine!r} does not exist; one of: {', '.join(model.ENGINES)}")
    if engine == "fdb":
        redundancy = data.get("fdb_redundancy")
        hosts = len(cluster.group("fdb"))
        if redundancy not in COORDINATORS:
            found.append(f"fdb_redundancy {redundancy!r} does not exist; one of: {', '.join(COORDINATORS)}")
        elif hosts < COORDINATORS[redundancy]:
            found.append(
                f"{redundancy} needs {COORDINATORS[redundancy]} coordinators, one per host; group fdb has {hosts}"
            )
        else:
            found += [*foundationdb.problems(cluster), *backup.problems(cluster)]
    try:
        ipaddress.IPv4Address(data.get("proxy_virtual_ip", ""))
    except ValueError:
        found.append("proxy_virtual_ip is not set to an IPv4 address (inventory/group_data)")
    if data.get("proxy_lane") not in ("direct", "wsgi"):
        found.append(f"proxy_lane {data.get('proxy_lane')!r} does not exist; one of: direct, wsgi")
    for host in cluster.group("apps"):
        for key in ("store_workers", "front_workers"):
            value = host.data.get(key)
            if not isinstance(value, int) or not 1 <= value < 100:
                found.append(f"host {host.name}: {key} is {value!r}; a number from 1 to 99 is needed")
    slots = data.get("app_slots") or {}
    if not any(slots.values()):
        found.append("app_slots names no release: at least one slot needs one, the same for all hosts")
    found += [
        f"app_slots: slot {slot!r} does not exist; one of: a, b" for slot in slots if slot not in model.SLOTS
    ]
    return [*found, *metrics.problems(cluster)]


def _known_keys(overrides: dict[str, Any]) -> list[str]:
    """``--data`` keys and components that there are not: misspelt, they would be ignored in silence."""
    known = model.data_keys() | {"component", "address"} | OPERATIONS_KEYS
    keys = [key for key in overrides if key not in known and not key.startswith("ssh_")]
    components = set(filter(None, str(overrides.get("component") or "").split(","))) - COMPONENTS
    return [
        *(f"--data {key}: no such key{_near(key, known)}" for key in keys),
        *(f"--data component={name}: no such component{_near(name, COMPONENTS)}" for name in sorted(components)),
    ]


def _near(word: str, known: set[str]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f"; {near[0]}?" if near else ""


def refuse_bad_input(inventory_file: str, names: dict[str, Any]) -> None:
    """Called at the end of an inventory file, so before pyinfra connects to anything.

    Ends the process with exit code 2 and one line per problem.
    """
    path = Path(inventory_file)
    overrides = _command_line_data()
    unknown = [
        f"{path}: unknown group {key}; one of: {', '.join(model.GROUPS)}"
        for key, value in names.items()
        if isinstance(value, list | tuple) and not key.startswith("_") and key not in (*model.GROUPS, "all")
    ]
    cluster = model.from_file(path, names, overrides)
    found = unknown or [*problems(cluster), *_known_keys(overrides)]
    if not found and any(operation.endswith(".py") for operation in _command_line("operations")):
        found = _files(cluster, overrides.get("component"))
    if found:
        for line in found:
            print(f"griddle: {line}", file=sys.stderr)
        raise SystemExit(2)


def _files(cluster: Cluster, component: str | None) -> list[str]:
    """Problems with files that the data names: profiles, releases, FoundationDB's packages.

    :param component: the only ones to be applied, parted by commas; None: all of them
    """
    found = []
    only = set(component.split(",")) if component else {"app", "foundationdb"}

    def attempt(check: Any) -> None:
        try:
            check()
        except UserError as error:
            found.append(str(error))

    for name in sorted({host.data["base_profile"] for host in cluster.hosts.values()}):
        attempt(lambda name=name: profiles.load(name))
    if only & {"app", "agent", "proxy"}:
        for version in filter(None, cluster.data["app_slots"].values()):
            attempt(lambda version=version: releases.resolve(version))
    if only & {"foundationdb", "backup"} and cluster.store_engine == "fdb":
        from ops import artifacts

        attempt(lambda: artifacts.resolve(cluster.data["fdb_version"]))
    return found


def _command_line(parameter: str) -> tuple[str, ...]:
    """A parameter of pyinfra's own command line, which an inventory file is not given."""
    context = click.get_current_context(silent=True)
    return tuple((context.params.get(parameter) or ()) if context else ())


def _command_line_data() -> dict[str, Any]:
    """``--data key=value`` arguments."""
    pairs = _command_line("data")
    if not pairs:  # the import makes the whole process gevent's, and `./griddle` reads inventories too
        return {}
    from pyinfra_cli.util import parse_cli_arg

    return {key: parse_cli_arg(value) for key, _, value in (pair.partition("=") for pair in pairs)}
