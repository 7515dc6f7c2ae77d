"""What etcd's data must be."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.check import Checks
from cluster.data import RUN, Setting
from cluster.forms import COUNT, LINE, PORT, TIME, whole
from cluster.model import Cluster, Host

SETTINGS = {
    "etcd_client_port": Setting(PORT),
    "etcd_peer_port": Setting(PORT),
    "etcd_heartbeat_ms": Setting(whole(10, 10_000)),
    "etcd_election_ms": Setting(whole(50, 50_000)),  # etcd's own upper limit
    "etcd_quota_bytes": Setting(whole(1024**2, 64 * 1024**3)),
    "etcd_snapshot_every": Setting(TIME),
    "etcd_snapshots_kept": Setting(COUNT),
    "etcd_join": Setting(LINE, RUN, "", meaning="etcd_members: who becomes a member, parted by commas"),
    "etcd_leave": Setting(LINE, RUN, "", meaning="etcd_members: who is one no longer, parted by commas"),
    "etcd_snapshot": Setting(LINE, RUN, "", meaning="etcd_restore: which, HOST:PATH"),
}


def faults(cluster: Cluster) -> Iterator[str]:
    data = cluster.data
    if data["etcd_election_ms"] < 5 * data["etcd_heartbeat_ms"]:
        yield (
            f"etcd_election_ms is {data['etcd_election_ms']}; etcd needs at least five heartbeats, "
            f"{5 * data['etcd_heartbeat_ms']} (etcd_heartbeat_ms is {data['etcd_heartbeat_ms']})"
        )


def ports(cluster: Cluster, host: Host) -> Iterator[tuple[int, str]]:
    if "etcd" in host.groups:
        for key in ("etcd_client_port", "etcd_peer_port"):
            yield host.data[key], key


CHECKS = Checks(settings=SETTINGS, faults=faults, ports=ports)
