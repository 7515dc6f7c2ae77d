"""The cluster that a run is about: typed, immutable, and the same whether it is read from an inventory file
(before any host is touched) or from pyinfra (while a deploy is prepared).
"""

from __future__ import annotations

import ast
import runpy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from cluster.errors import UserError
from services.config import ENGINES, SLOTS

__all__ = ["ENGINES", "GROUPS", "SLOTS", "Cluster", "Host"]

GROUPS = ("proxies", "apps", "etcd", "fdb", "metrics", "load", "spare")
GROUP_DATA = Path(__file__).parent.parent / "inventory" / "group_data"


@dataclass(frozen=True)
class Host:
    """One host: its name, its cluster-internal IPv4 address, its groups and its merged data.

    sources: where each value of an inventory file's host was set: "group_data/prod.py", "host app1", "--data"
    """

    name: str
    address: str
    groups: frozenset[str]
    data: Mapping[str, Any]
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __hash__(self) -> int:
        return hash(self.name)


@dataclass(frozen=True)
class Cluster:
    """All hosts in the inventory's order, and the data that is the same for all of them."""

    hosts: Mapping[str, Host]
    data: Mapping[str, Any]
    reached_by_ssh: bool = True

    def group(self, name: str) -> list[Host]:
        """Its hosts, in the inventory's order."""
        return [host for host in self.hosts.values() if name in host.groups]

    def groups(self, names: Iterable[str]) -> list[Host]:
        """Hosts in any of these groups, each once."""
        wanted = set(names)
        return [host for host in self.hosts.values() if host.groups & wanted]

    @property
    def name(self) -> str:
        return self.data["cluster_name"]

    @property
    def store_engine(self) -> str:
        return self.data["store_engine"]


def short_name(name: str) -> str:
    """A host's name without pyinfra's connector: app1 for @docker/app1."""
    return name.rpartition("/")[2]


def group_data(group: str) -> dict[str, Any]:
    """The values of a file in group_data, without what it imports, as pyinfra reads it; {} where there is none.

    :raises UserError: it is not Python, or fails
    """
    path = GROUP_DATA / f"{group}.py"
    if not path.is_file():
        return {}
    try:
        values = runpy.run_path(str(path))
        imported = {
            (alias.asname or alias.name).partition(".")[0]
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
    except Exception as error:  # of any kind: it is the operator's program
        where = f"{path.name}:{error.lineno}" if isinstance(error, SyntaxError) else path.name
        raise UserError(f"group_data/{where}: {type(error).__name__}: {error}") from None
    return {key: value for key, value in values.items() if not key.startswith("_") and key not in imported}


def from_file(inventory: Path, names: Mapping[str, Any], overrides: Mapping[str, Any]) -> Cluster:
    """Read a cluster as pyinfra would, from an inventory file's variables.

    Precedence, lowest first, is pyinfra's: group_data/all.py, the groups in the file's order, the group named
    after the file, the host's own data, ``--data``.

    :param inventory: the file, for the group that is named after it
    :param names: the file's global variables
    :param overrides: ``--data`` of the command line
    """
    groups = {
        key: value for key, value in names.items() if not key.startswith("_") and isinstance(value, list | tuple)
    }
    own: dict[str, dict[str, Any]] = {}
    member: dict[str, list[str]] = {}
    for group, entries in groups.items():
        for entry in entries:
            name, data = entry if isinstance(entry, tuple) else (entry, {})
            name = short_name(name)
            own.setdefault(name, {}).update(data)
            member.setdefault(name, []).append(group)
    files = {group: group_data(group) for group in dict.fromkeys(["all", *groups, inventory.stem])}
    hosts = {}
    for name, data in own.items():
        merged: dict[str, Any] = {}
        sources: dict[str, str] = {}
        layers = [(f"group_data/{group}.py", files[group]) for group in ["all", *member[name], inventory.stem]]
        for source, values in [*layers, (f"host {name}", data), ("--data", overrides)]:
            merged |= values
            sources |= dict.fromkeys(values, source)
        hosts[name] = Host(name, str(merged.get("address", "")), frozenset(member[name]), merged, sources)
    return Cluster(hosts, _shared(hosts))


def from_pyinfra(inventory: Any) -> Cluster:
    """Read a cluster from a pyinfra inventory."""
    hosts = {}
    for host in inventory:
        data = host.data.dict()
        groups = frozenset(host.groups) & frozenset(GROUPS)
        name = short_name(host.name)
        hosts[name] = Host(name, str(data.get("address", "")), groups, data)
    by_ssh = not any(host.name.startswith("@") for host in inventory)
    return Cluster(hosts, _shared(hosts), by_ssh)


def ssh_port(host: Host) -> int:
    """Where its sshd listens, as far as the data say."""
    return host.data.get("firewall_ssh_port") or host.data.get("ssh_port") or 22


def _shared(hosts: Mapping[str, Host]) -> dict[str, Any]:
    """The data on which all hosts agree."""
    every = [host.data for host in hosts.values()]
    if not every:
        return {}
    return {key: value for key, value in every[0].items() if all(data.get(key) == value for data in every)}


@lru_cache(maxsize=1)
def _cached(inventory: Any) -> Cluster:
    return from_pyinfra(inventory)


def cluster() -> Cluster:
    """The cluster of the running pyinfra invocation."""
    from pyinfra.context import ctx_inventory

    return _cached(ctx_inventory.get())


def this_host() -> Host:
    """The host that the deploy is being prepared for."""
    from pyinfra import host

    return cluster().hosts[short_name(host.name)]
