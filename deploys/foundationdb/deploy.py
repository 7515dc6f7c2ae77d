"""FoundationDB: servers on the fdb hosts, the client library on the app hosts."""

from __future__ import annotations

from functools import cache
from typing import Any

from gevent.lock import BoundedSemaphore
from pyinfra import inventory
from pyinfra.api import OperationError

from cluster import artifacts
from cluster.model import Cluster, Host, cluster, short_name, this_host
from deploys.foundationdb import cluster_file, config, operations, status
from deploys.foundationdb.cluster_file import ClusterFile
from deploys.foundationdb.config import numbers
from deploys.foundationdb.facts import Installation, Installed
from deploys.framework import operator_state
from deploys.framework.authority import authority
from deploys.framework.gates import wait_until
from deploys.framework.operations import installed_files, running_unit

_seed_lock = BoundedSemaphore()


def install() -> None:
    """The wanted version is unpacked: everything on fdb hosts, the client's part on app hosts."""
    host = this_host()
    version = host.data["fdb_version"]
    refuse_to_break(version)
    operations.unpacked(
        name=f"foundationdb | version {version} is unpacked in /opt/foundationdb",
        version=version,
        packages=packages_for(version, _is_server(host)),
    )


def configure() -> None:
    """Configuration, certificates and cluster files. Processes take them when they next start."""
    host = this_host()
    seed = seed_file()
    if _is_server(host):
        installed_files(
            name="foundationdb | server's configuration",
            component="foundationdb",
            files={**config.server_files(host, seed), **config.tls_files(host, authority())},
            directories=config.server_directories(),
        )
        return
    installed_files(
        name="foundationdb | client library and seed cluster file",
        component="foundationdb",
        files=config.client_files(host, seed),
        directories=config.client_directories(),
    )
    operations.seeded(
        name="foundationdb | the client's own cluster file",
        path=config.CLIENT_CLUSTER_FILE,
        seed=f"{config.CLIENT_DIRECTORY}/seed.cluster",
        key=seed.key,
        owner="griddle",
    )


def start() -> None:
    """The host's processes run; those that do already are left alone."""
    running_unit(name="foundationdb | fdbmonitor is started", **_unit(this_host()), start_only=True)


def _unit(host: Host) -> dict[str, Any]:
    return {
        "unit": config.UNIT,
        # Not foundationdb.conf: fdbmonitor reads it by itself, and processes take it at their next start.
        "inputs": [config.UNIT_FILE],
        "ready": config.listening_command(host),
    }


def activate() -> None:
    """The database exists, runs as configured, and is healthy; one host's operations act for all."""
    host, the_cluster = this_host(), cluster()
    if not _is_server(host):
        return
    # What concerns the whole database is done from one host.
    first = host == the_cluster.group("fdb")[0]
    data, healthy = host.data, limits(the_cluster, host.data["fdb_version"])
    start()
    if first:
        operations.created(
            name=f"foundationdb | a {data['fdb_redundancy']} {data['fdb_engine']} database exists",
            redundancy=data["fdb_redundancy"],
            engine=data["fdb_engine"],
            members=[member.name for member in the_cluster.group("fdb")],
        )
        operations.running_as_configured(
            name="foundationdb | all processes run as configured",
            wanted=config.wanted_processes(the_cluster),
            limits=limits(the_cluster),
            seconds=data["fdb_health_seconds"],
        )
        operations.healthy(name="foundationdb | gate: healthy", limits=healthy, seconds=data["fdb_health_seconds"])
    # A monitor takes its processes with it. A healthy cluster bears that on all hosts at once, as it bears a
    # bounce; one after another would cost a recovery each.
    running_unit(name="foundationdb | fdbmonitor runs its unit as it is now", **_unit(host))
    if first:
        operations.healthy(
            name="foundationdb | gate: still healthy", limits=healthy, seconds=data["fdb_health_seconds"]
        )
    if data["fdb_tls"]:
        wait_until(
            name="foundationdb | gate: processes have read their certificates",
            command=config.certificates_read_command(host),
            seconds=12 * config.TLS_REFRESH_SECONDS,
            what="every process serves the certificate that it was given",
        )


def limits(the_cluster: Cluster, version: str | None = None) -> status.Limits:
    """What healthy means for this cluster.

    :param version: the version that every process must run; None: any, but the same one
    """
    data = the_cluster.data
    replicas = config.REPLICAS[data["fdb_redundancy"]]
    return status.Limits(
        replicas=replicas,
        zone_failures=replicas - 1,
        processes=frozenset(config.wanted_processes(the_cluster)),
        version=version,
        configuration=(data["fdb_redundancy"], data["fdb_engine"]),
    )


def seed_file() -> ClusterFile:
    """The cluster's seed: what the operator keeps, else what the hosts have, else a new one."""
    with _seed_lock:  # hosts are prepared concurrently, and all must get the same
        return _seed_file()


@cache
def _seed_file() -> ClusterFile:
    """See `seed_file`."""
    the_cluster = cluster()
    path = cluster_file.operator_path(the_cluster.name)
    members = [member.name for member in the_cluster.group("fdb")]
    with operator_state.refusals():
        kept = cluster_file.read(path)
        seen = _seen(members) or _seen(
            [app.name for app in the_cluster.group("apps")],
            cluster_file=config.CLIENT_CLUSTER_FILE,
            seed=f"{config.CLIENT_DIRECTORY}/seed.cluster",
        )
        unknown = [name for name in members if name not in seen]
        chosen = cluster_file.choose(kept, seen, the_cluster.name, config.coordinators(the_cluster), unknown)
    _refuse_another_transport(chosen, the_cluster.data["fdb_tls"])
    if chosen != kept:
        operator_state.save_when_executed(lambda: cluster_file.write(path, chosen, instead_of=kept))
    return chosen


def _seen(names: list[str], **files: str) -> dict[str, list[ClusterFile]]:
    """{host: its run-time file and its seed, as far as it has them} of those that take part in this run.

    :param files: where they lie, unless where servers have them
    """
    found = {}
    for host in inventory:
        if (name := short_name(host.name)) in names and host.connected:
            state: Installed = host.get_fact(Installation, **files)
            texts = filter(None, (state.cluster_file, state.seed))
            found[name] = [cluster_file.parse(text, f"{name}: cluster file") for text in texts]
    return found


def _refuse_another_transport(seed: ClusterFile, tls: bool) -> None:
    """TLS is chosen when a database is created: on a running one every process, coordinator and client would
    have to change at the same moment.

    :raises OperationError: the database is one of the other kind
    """
    if any(address.endswith(":tls") != tls for address in seed.coordinators):
        raise OperationError(
            f"fdb_tls is {tls}, and the running database was created {'without' if tls else 'with'} TLS, which "
            "cannot be changed on a running cluster: set it back, or restore a backup into a new database"
        )


def packages_for(version: str, server: bool) -> list[operations.Package]:
    """What a host needs of a version."""
    found = _packages(version)
    packages = [operations.Package("clients", found.clients, found.clients_sha256)]
    if server:
        packages.append(operations.Package("server", found.server, found.server_sha256))
    return packages


@cache
def _packages(version: str) -> artifacts.Artifacts:
    return artifacts.resolve(version)


def _is_server(host: Host) -> bool:
    return "fdb" in host.groups


def refuse_to_break(version: str) -> None:
    """An apply brings a newer patch; anything else is not an apply.

    :raises OperationError: this host has another minor version, or a newer patch than the data want
    """
    from pyinfra import host

    seen: Installed = host.get_fact(Installation)
    if seen.current and seen.configured and not _same_minor(seen.current, seen.configured):
        raise OperationError(
            f"{host.name}: an upgrade from FoundationDB {seen.current} to {seen.configured} has not come to its "
            f"end: run ./griddle fdb upgrade {seen.configured}"
        )
    if not seen.current or (_same_minor(seen.current, version) and numbers(seen.current) <= numbers(version)):
        return
    wants = f"{host.name} runs FoundationDB {seen.current}, the data want {version}"
    back = f'set fdb_version = "{seen.current}" in inventory/group_data'
    if _same_minor(seen.current, version):
        raise OperationError(f"{wants}; an apply does not go back: {back}, or run ./griddle fdb upgrade {version}")
    if numbers(seen.current) > numbers(version):
        raise OperationError(f"{wants}, another minor version, to which there is no way back: {back}")
    raise OperationError(
        f"{wants}: another minor version is not wire-compatible, and an apply would stop the cluster: "
        f"{back}, and run ./griddle fdb upgrade {version}"
    )


def _same_minor(one: str, other: str) -> bool:
    return numbers(one)[:2] == numbers(other)[:2]
