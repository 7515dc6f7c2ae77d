"""What is left to do of an upgrade: pure, from what the cluster and its hosts say, and the target.

Procedures: apple/foundationdb, documentation/sphinx/source/administration.rst, "Upgrading FoundationDB"; the order
of a wire-incompatible one also as FoundationDB/fdb-kubernetes-operator does it (docs/manual/upgrades.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from deploys.conductor.conduct import Plan, Step
from deploys.foundationdb import status
from deploys.foundationdb.config import numbers
from deploys.foundationdb.status import Document, Limits

MIB = 1024**2
# {class: one in which a process keeps what it stores, and controls the cluster only where no better one is left}
# (apple/foundationdb, fdbrpc/Locality.cpp, ProcessClass::machineClassFitness)
YIELDING = {"unset": "storage", "stateless": "router", "transaction": "log"}
CONTROLLER = "cluster_controller"
# Roles whose loss costs no recovery.
FREE = {"storage", "coordinator", "data_distributor", "ratekeeper", "consistency_scan"}


@dataclass(frozen=True)
class HostSeen:
    """What one host has of FoundationDB.

    :param releases: {version: names of the packages in its directory}
    :param current: the version that the `current` link names
    :param configured: the version in foundationdb.conf's command; empty on a client
    :param running: versions of its fdbserver processes; on a client those of the libraries in its store workers
    :param workers: versions of the libraries in each store worker
    :param external: versions among the client's further libraries
    :param follows: its client speaks one version only, and follows the servers: a backup agent
    :param free_bytes: space left for another version
    :param peers: address:port of those whose connections its fdbserver processes hold
    :param conf: the checksum of its foundationdb.conf
    :param edited: that is not what the data make for the version that it names
    """

    releases: Mapping[str, frozenset[str]]
    current: str
    configured: str = ""
    running: frozenset[str] = frozenset()
    workers: tuple[frozenset[str], ...] = ()
    external: frozenset[str] = frozenset()
    follows: bool = False
    free_bytes: int = 0
    peers: frozenset[str] = frozenset()
    conf: str = ""
    edited: bool = False


@dataclass(frozen=True)
class UpgradeSeen:
    """Everything that a plan is made of. Hosts by name.

    :param backup: seconds since the newest restorable point of the backup; None: there is no backup
    """

    document: Document | None
    servers: Mapping[str, HostSeen]
    clients: Mapping[str, HostSeen]
    backup: float | None = None


@dataclass(frozen=True)
class UpgradeTarget:
    """What the operator asked for.

    :param procedure: patch or minor; auto: by the versions
    :param endpoints: {host: its processes' address:port}
    :param hosts: {address: name} of the inventory's hosts, whatever they are
    :param classes: {address:port: the process's class by the inventory}
    :param limits: what healthy means, of one version or another
    :param needed_bytes: space that staging takes on a host
    :param problem: why the packages cannot be had; empty if they can
    :param own: addresses of the servers and of those clients that follow them, as they themselves do
    :param ours: addresses of the inventory's other clients, which get the target's library in time
    :param cut_off: go on where other clients would be cut off
    :param backed_up: there is to be a backup
    :param backup_seconds: how old its newest restorable point may be before a minor upgrade
    """

    version: str
    endpoints: Mapping[str, frozenset[str]]
    limits: Limits
    hosts: Mapping[str, str] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)
    rolling: bool = False
    procedure: str = "auto"
    needed_bytes: int = 0
    problem: str = ""
    own: frozenset[str] = frozenset()
    ours: frozenset[str] = frozenset()
    cut_off: bool = False
    backed_up: bool = True
    backup_seconds: float = 300
    everything: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "everything", frozenset().union(*self.endpoints.values()))


def upgrade(seen: UpgradeSeen, target: UpgradeTarget) -> Plan:
    """The steps that are left, or the reasons why none may be taken."""
    refusals = tuple(_refusals(seen, target))
    return Plan(refusals=refusals) if refusals else Plan(steps=tuple(_steps(seen, target)))


def under_way(seen: UpgradeSeen, target: UpgradeTarget) -> bool:
    """Some host is configured for the target: an upgrade to it has switched, and was perhaps interrupted."""
    return any(host.configured == target.version for host in seen.servers.values())


def is_minor(seen: UpgradeSeen, target: UpgradeTarget) -> bool:
    """Whether the procedure is that of another minor version."""
    if target.procedure != "auto":
        return target.procedure == "minor"
    known = set(_running(seen, target).values())
    for host in [*seen.servers.values(), *seen.clients.values()]:
        known |= {host.configured, host.current} | host.running
    return any(numbers(version)[:2] != numbers(target.version)[:2] for version in known if version)


def _running(seen: UpgradeSeen, target: UpgradeTarget) -> dict[str, str]:
    """{endpoint: version} of the processes that the inventory knows."""
    found = {p.endpoint: p.version for p in status.processes(seen.document) if p.endpoint in target.everything}
    # For some seconds after its start the cluster does not say it of every process.
    return {endpoint: version for endpoint, version in found.items() if version}


def _who(seen: UpgradeSeen, target: UpgradeTarget, version: str) -> str:
    """A version, with the hosts whose processes run it."""
    found = _running(seen, target)
    names = [name for name, every in target.endpoints.items() if version in {found.get(each) for each in every}]
    return f"{version} ({', '.join(names)})"


def _refusals(seen: UpgradeSeen, target: UpgradeTarget) -> Iterator[str]:
    if target.problem:
        yield target.problem
        return
    others = sorted({v for v in _running(seen, target).values() if v != target.version}, key=numbers)
    if len(others) > 1:
        mixed = " and ".join(_who(seen, target, each) for each in others)
        yield f"processes run {mixed}: a mixture that an upgrade to {target.version} did not make"
    elif others and len(set(_running(seen, target).values())) > 1 and not under_way(seen, target):
        yield f"some processes run {_who(seen, target, target.version)} already, and no upgrade has made them"
    for other in sorted({*others, *_serving(seen)}, key=numbers):
        if numbers(other)[:2] > numbers(target.version)[:2]:
            yield (
                f"{other} to {target.version} goes back across minor versions, which cannot read its data files: "
                f"restore a backup into a new cluster of {target.version}, see docs/operations.md, Another version"
            )
    if is_minor(seen, target) and target.rolling:
        yield "another minor version cannot be rolled zone by zone: its processes do not talk to the older ones"
    if is_minor(seen, target) and not target.backed_up and not under_way(seen, target):
        yield "another minor version needs a fresh backup, and fdb_backup_url is empty"
    for name, host in {**seen.servers, **seen.clients}.items():
        if target.version not in host.releases and host.free_bytes < target.needed_bytes:
            yield (
                f"{name}: {host.free_bytes // MIB} MiB free in /opt, {target.needed_bytes // MIB} MiB are needed "
                f"to stage {target.version}"
            )
    if target.version not in _running(seen, target).values():
        yield from _strangers(seen, target)
    if under_way(seen, target):
        return
    if strangers := [each for each in lagging(seen, target) if each.split(":")[0] not in target.ours]:
        yield (
            f"clients that are not in the inventory would be cut off: {', '.join(strangers)}; give them the "
            f"library of {target.version}, too, or go on without them by --cut-off"
        )
    for gate in status.judge(seen.document, target.limits).failing:
        if gate.name != "one version":
            yield f"the cluster is not healthy: {_with_names(str(gate), target)}"


def _with_names(text: str, target: UpgradeTarget) -> str:
    """A host's name after each address."""

    def named(found: re.Match[str]) -> str:
        name = target.hosts.get(found[1])
        return f"{found[0]} ({name})" if name else found[0]

    return re.sub(r"\b(\d+\.\d+\.\d+\.\d+):\d+(:tls)?", named, text)


def _strangers(seen: UpgradeSeen, target: UpgradeTarget) -> Iterator[str]:
    """Processes that the inventory does not have. They would come back as whatever their host says: of the version
    of before, or not at all, with all that they hold. After the bounce the gate names them.
    """
    for each in status.processes(seen.document):
        if each.endpoint in target.everything:
            continue
        name = target.hosts.get(each.endpoint.partition(":")[0], "")
        what = f"{each.endpoint} ({each.version}) is a process of the database, and"
        if name in target.endpoints:
            yield (
                f"{what} fdb_process_classes of {name} has none on that port: put it there; or `exclude "
                f"{each.endpoint}` in fdbcli, and once that has ended take it out of foundationdb.conf on {name}, "
                f"end it there, and `include {each.endpoint}`"
            )
        elif name:
            yield f"{what} {name} is none of its hosts: put {name} into group spare, ./griddle fdb remove {name}"
        else:
            yield f"{what} no host of the inventory has that address: put it into spare, ./griddle fdb remove it"


def _steps(seen: UpgradeSeen, target: UpgradeTarget) -> Iterator[Step]:
    yield from _staging(seen, target)
    yield from (_minor if is_minor(seen, target) else _patch)(seen, target)


def _staging(seen: UpgradeSeen, target: UpgradeTarget) -> Iterator[Step]:
    version = target.version
    lacking = [name for name, host in seen.servers.items() if "server" not in host.releases.get(version, ())]
    lacking += [name for name, host in seen.clients.items() if version not in host.releases]
    if lacking:
        name = f"stage {version} on {', '.join(lacking)}, and run it there once"
        yield Step(name, "stage", tuple(lacking), quiet=True)


def _patch(seen: UpgradeSeen, target: UpgradeTarget) -> Iterator[Step]:
    version = target.version
    old = _killable(seen, target)
    lent = _lent(seen, target)
    switch = [n for n, host in seen.servers.items() if {host.configured, host.current} != {version}]
    if switch or old:
        # As data are now: what has been edited since, on the host or in the data, comes by the same restart.
        edited = [name for name, host in seen.servers.items() if host.edited]
        switch += [name for name in edited if name not in switch]
    if switch:
        more = f"; foundationdb.conf of {', '.join(edited)} was another, and is written anew" if edited else ""
        yield Step(f"point {', '.join(switch)} to {version}{more}", "switch", tuple(switch))
    if old and target.rolling:
        for step in _zone_by_zone(seen, target, old):
            yield step
            lent |= dict(step.arguments) if step.action == "hand_over" else {}
    elif old:
        yield Step(f"bounce the processes of {', '.join(old)} at once", "bounce", tuple(old))
    if lent:
        yield Step(f"give {', '.join(sorted(lent))} their class of before", "give_back", tuple(sorted(lent)))
    behind = [n for n, host in seen.clients.items() if host.current != version or host.running - {version}]
    if behind:
        yield Step(
            f"store workers on {', '.join(behind)} take the library of {version}", "take_library", tuple(behind)
        )
    if switch or old or behind or not _is_healthy(seen, target):
        yield Step("gate: healthy", "healthy", waits=True)


def _zone_by_zone(seen: UpgradeSeen, target: UpgradeTarget, old: list[str]) -> Iterator[Step]:
    """Zones that cost no recovery first. What is still recovering from one zone waits before the next.

    Last the zone of the cluster controller, which is moved away before: coordinators miss a killed one only after
    2 to 4 s (POLLING_FREQUENCY), and only then is another elected. One that is asked to yield goes on until then.
    """
    gate = Step("gate: bears the loss of a zone", "bears", waits=True)
    costs = {name: [r for r in _roles(seen, target, name) if r not in FREE] for name in old}
    if not status.bears(seen.document, target.limits).ok:
        yield gate
    for name in sorted(old, key=lambda name: (CONTROLLER in costs[name], len(costs[name]), name)):
        if CONTROLLER in costs[name] and (yielding := _yielding(seen, target, name)):
            yield Step(f"move the cluster controller off {name}", "hand_over", tuple(yielding.items()))
            yield gate
        yield Step(f"restart the processes of {name}", "zone", (name,))
        yield gate


def _yielding(seen: UpgradeSeen, target: UpgradeTarget, host: str) -> dict[str, str]:
    """{endpoint: class that it gets} of a host's processes that could control the cluster.

    Without those that have been given a class already, by this or by somebody. Empty where no other host has one.
    """
    could = {n: [e for e in every if target.classes.get(e) in YIELDING] for n, every in target.endpoints.items()}
    if not any(every for name, every in could.items() if name != host):
        return {}
    given = {p.endpoint for p in status.processes(seen.document) if p.set_class}
    return {e: YIELDING[target.classes[e]] for e in sorted(could[host]) if e not in given}


def _lent(seen: UpgradeSeen, target: UpgradeTarget) -> dict[str, str]:
    """{endpoint: class} of the processes that have been given another class, so that they yield."""
    found = {p.endpoint: p.set_class for p in status.processes(seen.document) if p.set_class}
    return {e: name for e, name in found.items() if name == YIELDING.get(target.classes.get(e, ""))}


def _minor(seen: UpgradeSeen, target: UpgradeTarget) -> Iterator[Step]:
    version = target.version
    old = _old(seen, target)
    if old and not under_way(seen, target):
        behind = [n for n, host in seen.clients.items() if not host.follows and _lacks(host, version)]
        if behind:
            yield Step(f"clients first: {', '.join(behind)} load {version}, too", "clients_first", tuple(behind))
        if behind or lagging(seen, target):
            yield Step(f"gate: every client speaks {version}", "clients_speak", waits=True)
        if seen.backup is None or seen.backup > target.backup_seconds:
            yield Step("a fresh backup is restorable", "backup", waits=True)
    switch = [name for name, host in seen.servers.items() if host.configured != version]
    if switch:
        yield Step(f"point the processes of {', '.join(switch)} to {version}", "switch_command", tuple(switch))
    if old:
        serving = sorted(_serving(seen), key=numbers)
        if serving and version not in serving:
            yield Step(f"bounce all processes by the fdbcli of {serving[-1]}", "bounce_old", (serving[-1],))
        yield Step(
            f"all processes run {version}, by a restart on their hosts where need be",
            "stragglers",
            late(seen.servers, target),
        )
    link = [name for name, host in seen.servers.items() if host.current != version]
    if link:
        yield Step(f"point {', '.join(link)} to {version}", "link", tuple(link))
    behind = [n for n, host in seen.clients.items() if host.external or {host.current, *host.running} - {version}]
    if behind:
        yield Step(f"clean up: {', '.join(behind)} load {version} alone", "take_library", tuple(behind))
    if switch or old or not _is_healthy(seen, target):
        yield Step("gate: healthy", "healthy", waits=True)


def _lacks(host: HostSeen, version: str) -> bool:
    """Not every worker of a client's host speaks a version, or would after its next start."""
    return version not in {host.current, *host.external} or any(version not in each for each in host.workers)


def late(servers: Mapping[str, HostSeen], target: UpgradeTarget) -> tuple[str, ...]:
    """Hosts with a process that has missed the bounce, by what runs there."""
    return tuple(name for name, host in servers.items() if host.running - {target.version})


def _serving(seen: UpgradeSeen) -> frozenset[str]:
    """Versions of the processes, as their hosts say: a database in which they are mixed says nothing."""
    return frozenset().union(*(host.running for host in seen.servers.values()))


def lagging(seen: UpgradeSeen, target: UpgradeTarget) -> list[str]:
    """Clients that could not talk to servers of the target: "address:port (the newest version that it speaks)".

    One whose connection no server holds has gone, whatever the coordinators still list; if all servers could be
    asked for theirs. One that runs has some: to its peers.
    """
    told = all(seen.servers[name].peers for name in target.endpoints if name in seen.servers)
    connected = frozenset().union(*(host.peers for host in seen.servers.values()))
    found = []
    for address, version in sorted(status.newest_versions(seen.document).items()):
        host = address.split(":")[0]
        if version == "Unknown" or (told and address not in connected) or host in target.own:
            continue
        if numbers(version)[:2] < numbers(target.version)[:2] and not (target.cut_off and host not in target.ours):
            found.append(f"{address} ({version})")
    return found


def hosts_at_once(workers: Mapping[str, int], away: float) -> int:
    """On how many hosts store workers may restart at the same time, of each host one after another.

    :param workers: {host: how many it has}
    :param away: the share of all of them that may be away at once
    :return: at least 1; never all hosts, where there are more
    """
    return max(1, min(int(away * sum(workers.values())), len(workers) - 1))


def _old(seen: UpgradeSeen, target: UpgradeTarget) -> list[str]:
    """Hosts with a process that does not run the target."""
    found = _running(seen, target)
    return [n for n, every in target.endpoints.items() if any(found.get(e) != target.version for e in every)]


def _killable(seen: UpgradeSeen, target: UpgradeTarget) -> list[str]:
    """Hosts with a process that runs another version than the target, by the cluster, or by the host where the
    cluster does not know. One that is not there cannot be killed: gates wait for it.
    """
    found, hosts = _running(seen, target), []
    for name, every in target.endpoints.items():
        versions = {found[endpoint] for endpoint in every if found.get(endpoint)}
        if name in seen.servers and not all(found.get(endpoint) for endpoint in every):
            versions |= seen.servers[name].running
        hosts += [name] if versions - {target.version} else []
    return hosts


def _is_healthy(seen: UpgradeSeen, target: UpgradeTarget) -> bool:
    """How long ago the last recovery was is asked before the first step alone: the steps themselves cost one."""
    return status.judge(seen.document, replace(target.limits, recovered_seconds=0)).ok


def _roles(seen: UpgradeSeen, target: UpgradeTarget, host: str) -> list[str]:
    """What the processes of a host do."""
    found = [p for p in status.processes(seen.document) if p.endpoint in target.endpoints[host]]
    return [role for process in found for role in process.roles]
