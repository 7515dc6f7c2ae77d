"""What is left to do of an upgrade: pure, from what the cluster and its hosts say, and the target.

Procedures: apple/foundationdb, documentation/sphinx/source/administration.rst, "Upgrading FoundationDB"; the order
of a wire-incompatible one also as FoundationDB/fdb-kubernetes-operator does it (docs/manual/upgrades.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deploys.conduct import Plan, Step
from deploys.foundationdb import status
from deploys.foundationdb.status import Document, Limits

MIB = 1024**2


@dataclass(frozen=True)
class HostSeen:
    """What one host has of FoundationDB.

    :param releases: {version: names of the packages in its directory}
    :param current: the version that the `current` link names
    :param configured: the version in foundationdb.conf's command; empty on a client
    :param free_bytes: space left for another version
    """

    releases: Mapping[str, frozenset[str]]
    current: str
    configured: str
    free_bytes: int


@dataclass(frozen=True)
class Seen:
    """Everything that a plan is made of. Hosts by name."""

    document: Document | None
    servers: Mapping[str, HostSeen]
    clients: Mapping[str, HostSeen]


@dataclass(frozen=True)
class Target:
    """What the operator asked for.

    :param endpoints: {host: its processes' address:port}
    :param limits: what healthy means, without a version
    :param needed_bytes: space that staging takes on a host
    :param problem: why the packages cannot be had; empty if they can
    """

    version: str
    rolling: bool
    endpoints: Mapping[str, frozenset[str]]
    limits: Limits
    needed_bytes: int = 0
    problem: str = ""


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def upgrade(seen: Seen, target: Target) -> Plan:
    """The steps that are left, or the reasons why none may be taken."""
    refusals = tuple(_refusals(seen, target))
    return Plan(refusals=refusals) if refusals else Plan(steps=tuple(_steps(seen, target)))


def under_way(seen: Seen, target: Target) -> bool:
    """Some host is configured for the target: an upgrade to it has switched, and may have been interrupted."""
    return any(host.configured == target.version for host in seen.servers.values())


def running(seen: Seen, target: Target) -> dict[str, str]:
    """{endpoint: version} of the processes that the inventory knows."""
    known = frozenset().union(*target.endpoints.values())
    return {p.endpoint: p.version for p in status.processes(seen.document) if p.endpoint in known}


def _refusals(seen: Seen, target: Target) -> Iterator[str]:
    if target.problem:
        yield target.problem
        return
    others = sorted({v for v in running(seen, target).values() if v != target.version}, key=numbers)
    if len(others) > 1:
        yield f"processes run {', '.join(others)}: a mixture that an upgrade to {target.version} did not make"
    for other in others[:1]:
        if numbers(other)[:2] > numbers(target.version)[:2]:
            yield f"{other} to {target.version} goes back across minor versions, which cannot read its data files"
    for name, host in {**seen.servers, **seen.clients}.items():
        if target.version not in host.releases and host.free_bytes < target.needed_bytes:
            yield (
                f"{name}: {host.free_bytes // MIB} MiB free in /opt, {target.needed_bytes // MIB} MiB are needed "
                f"to stage {target.version}"
            )
    if under_way(seen, target):
        return
    health = status.judge(seen.document, target.limits)
    for gate in health.failing:
        yield f"the cluster is not healthy: {gate.name}: {gate.seen}"


def _steps(seen: Seen, target: Target) -> Iterator[Step]:
    version = target.version
    lacking = [name for name, host in seen.servers.items() if "server" not in host.releases.get(version, ())]
    lacking += [name for name, host in seen.clients.items() if version not in host.releases]
    if lacking:
        yield Step(f"stage {version} on {', '.join(lacking)}, and run it there once", "stage", tuple(lacking))
    switch = [
        name for name, host in seen.servers.items() if version not in (host.configured,) or host.current != version
    ]
    if switch:
        yield Step(f"point {', '.join(switch)} to {version}", "switch", tuple(switch))
    found = running(seen, target)
    if any(found.get(e) != version for every in target.endpoints.values() for e in every):
        yield Step("bounce all processes", "bounce")
    if lacking or switch or not status.judge(seen.document, target.limits).ok:
        yield Step("gate: healthy", "healthy")
    behind = [name for name, host in seen.clients.items() if host.current != version]
    if behind:
        yield Step(f"point clients on {', '.join(behind)} to {version}", "point_clients", tuple(behind))
