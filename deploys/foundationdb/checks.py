"""What FoundationDB's data must be."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cluster import artifacts
from cluster.check import Checks
from cluster.data import HOST, RUN, Setting
from cluster.forms import (
    HOST_NAME,
    LINE,
    PORT,
    SECONDS,
    SIZE,
    YES_OR_NO,
    Form,
    ListOf,
    MapOf,
    one_of,
    or_empty,
    share,
    size_bytes,
    text,
    whole,
)
from cluster.model import Cluster, Host
from deploys.foundationdb.config import CLASSES, COORDINATORS, PROCEDURES, REPLICAS, processes

_ENGINES = ("ssd", "ssd-1", "ssd-2", "ssd-redwood-1", "ssd-rocksdb-v1", "ssd-sharded-rocksdb", "memory")
_KNOB_VALUE = Form(
    "a number, True, False or a word",
    lambda value: type(value) in (int, float, bool) or not [*text(r"[!-~]+", "").faults(value)],
)

SETTINGS = {
    "fdb_version": Setting(text(r"[0-9]+\.[0-9]+\.[0-9]+", "a version such as 7.3.77")),
    "fdb_port": Setting(PORT),
    "fdb_redundancy": Setting(one_of(*REPLICAS)),
    "fdb_engine": Setting(one_of(*_ENGINES)),
    "fdb_tls": Setting(YES_OR_NO),
    "fdb_rolling": Setting(YES_OR_NO),
    "fdb_procedure": Setting(one_of(*PROCEDURES)),
    "fdb_cut_off": Setting(YES_OR_NO),
    "fdb_workers_away": Setting(share()),
    "fdb_recovered_seconds": Setting(whole(0, 10**9)),
    "fdb_process_classes": Setting(
        ListOf(one_of(*CLASSES), "a list of process classes, at least one", 1), HOST, "fdb"
    ),
    "fdb_memory": Setting(SIZE, HOST, "fdb"),
    "fdb_cache_memory": Setting(SIZE, HOST, "fdb"),
    "fdb_storage_memory": Setting(SIZE, HOST, "fdb"),
    "fdb_log_size": Setting(SIZE, HOST, "fdb"),
    "fdb_logs_size": Setting(SIZE, HOST, "fdb"),
    "fdb_open_files": Setting(whole(1024, 2**30), HOST, "fdb"),
    "fdb_knobs": Setting(
        MapOf(text(r"[A-Za-z0-9_]+", "a knob's name"), _KNOB_VALUE, "{knob: value}"), HOST, "fdb"
    ),
    "fdb_health_seconds": Setting(SECONDS, HOST, "fdb"),
    "join": Setting(
        or_empty(HOST_NAME, "nobody"), RUN, "", meaning="fdb_members: who becomes a part of the database"
    ),
    "leave": Setting(or_empty(HOST_NAME, "nobody"), RUN, "", meaning="fdb_members: who leaves it"),
    "coordinators": Setting(LINE, RUN, "", meaning="fdb_members: auto, or hosts parted by commas"),
}


def faults(cluster: Cluster) -> Iterator[str]:
    if cluster.store_engine != "fdb":
        return
    data, hosts = cluster.data, cluster.group("fdb")
    redundancy = data["fdb_redundancy"]
    if len(hosts) < COORDINATORS[redundancy]:
        yield (
            f"{redundancy} needs {COORDINATORS[redundancy]} coordinators, one per host; group fdb has {len(hosts)}"
        )
    for host in hosts:
        kept = "fdb_storage_memory" if data["fdb_engine"] == "memory" else "fdb_cache_memory"
        for small, large in ((kept, "fdb_memory"), ("fdb_log_size", "fdb_logs_size")):
            if size_bytes(host.data[small]) >= size_bytes(host.data[large]):
                seen = f"{small} is {host.data[small]}"
                yield f"host {host.name}: {seen}; less than {large}, {host.data[large]}, is needed"


def ports(cluster: Cluster, host: Host) -> Iterator[tuple[int, str]]:
    if cluster.store_engine == "fdb" and "fdb" in host.groups:
        for process in processes(host):
            yield process.port, f"fdb_port (process {process.port - host.data['fdb_port']})"


def files(cluster: Cluster) -> Iterator[Callable[[], object]]:
    """FoundationDB's packages."""
    if cluster.store_engine == "fdb":
        yield lambda: artifacts.resolve(cluster.data["fdb_version"])


CHECKS = Checks(settings=SETTINGS, faults=faults, ports=ports, files=files)
