"""What the services' data must be."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cluster import releases, settings
from cluster.check import Checks, kernel
from cluster.data import HOST, Setting, limited
from cluster.forms import COUNT, FILE_NAME, PORT, MapOf, one_of, or_empty
from cluster.model import SLOTS, Cluster, Host

SETTINGS = {
    "store_port": Setting(PORT, HOST),
    "store_workers": Setting(limited("store.workers"), HOST),
    "store_max_batch": Setting(limited("store.max_batch"), HOST),
    "store_value_limit_bytes": Setting(limited("store.value_limit_bytes")),
    "front_port": Setting(PORT, HOST),
    "front_workers": Setting(limited("front.workers"), HOST),
    "front_backlog": Setting(limited("front.backlog"), HOST),
    "feed_poll_ms": Setting(limited("feed.poll_ms"), HOST),
    "app_slots": Setting(MapOf(one_of(*SLOTS), or_empty(FILE_NAME, "none"), "{slot: release}, slots a and b")),
    "app_keep_releases": Setting(COUNT, HOST),
}


def faults(cluster: Cluster) -> Iterator[str]:
    for host in cluster.hosts.values():
        somaxconn, key = kernel(host, "net.core.somaxconn", "4096"), "front_backlog"
        if host.groups & {"apps", "proxies"} and host.data[key] > int(somaxconn):
            seen = f"{key} is {host.data[key]}"
            yield f"host {host.name}: {seen}; its profile's net.core.somaxconn cuts it to {somaxconn}"
    if not any(cluster.data["app_slots"].values()):
        yield "app_slots names no release: at least one slot needs one, the same for all hosts"


def ports(cluster: Cluster, host: Host) -> Iterator[tuple[int, str]]:
    if "apps" in host.groups:
        for what in ("store", "front"):
            for slot in SLOTS:
                for worker, port in enumerate(settings.ports(host, what, slot)):
                    yield port, f"{what}_port (slot {slot}, worker {worker})"


def files(cluster: Cluster) -> Iterator[Callable[[], object]]:
    """The releases that the slots name."""
    for version in filter(None, cluster.data["app_slots"].values()):
        yield lambda version=version: releases.resolve_present(version)


CHECKS = Checks(settings=SETTINGS, faults=faults, ports=ports, files=files)
