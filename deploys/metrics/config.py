"""The metrics pipeline's files: StatsD → collectd on each host → Graphite lines → VictoriaMetrics. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster.model import Cluster, Host
from cluster.pki import places
from deploys.foundationdb import config as foundationdb
from deploys.foundationdb.cluster_file import ClusterFile
from deploys.foundationdb.status import Limits
from deploys.framework.render import render
from deploys.framework.tree import File

HERE = Path(__file__).parent
TEMPLATES = HERE / "templates"

DAEMON = "collectd.service"
DAEMON_CONF = "/etc/collectd/collectd.conf"
DAEMON_DROP_IN = f"/etc/systemd/system/{DAEMON}.d/griddle.conf"

STORE = "victoria-metrics.service"
STORE_ARGUMENTS = "/etc/default/victoria-metrics"
STORE_RELABELLING = "/etc/victoria-metrics/relabel.yml"
STORE_DROP_IN = f"/etc/systemd/system/{STORE}.d/griddle.conf"
STORE_SCRAPING = "/etc/victoria-metrics/scrape.yml"

HOST_METRICS = "griddle-host-metrics.service"
HOST_METRICS_UNIT = f"/etc/systemd/system/{HOST_METRICS}"
HOST_METRICS_PROGRAM = "/usr/local/lib/griddle/host-metrics"

EXPORTER = "griddle-metrics-exporter.service"
EXPORTER_UNIT = f"/etc/systemd/system/{EXPORTER}"
EXPORTER_CODE = "/usr/local/lib/griddle/exporter"
EXPORTER_DIRECTORY = "/etc/griddle/metrics-exporter"  # the user griddle's: fdbcli rewrites its cluster file
EXPORTER_CONF = f"{EXPORTER_DIRECTORY}/exporter.json"
EXPORTER_SEED = f"{EXPORTER_DIRECTORY}/seed.cluster"
EXPORTER_CLUSTER_FILE = f"{EXPORTER_DIRECTORY}/fdb.cluster"
EXPORTER_TLS = {
    "CA": f"{places.SERVICES}/ca.crt",
    "CERTIFICATE": f"{places.SERVICES}/client.crt",
    "KEY": f"{places.SERVICES}/client.key",
}
# The exporter and what it imports, from this checkout.
EXPORTER_MODULES = (
    "deploys/__init__.py",
    "deploys/foundationdb/__init__.py",
    "deploys/foundationdb/status.py",
    "deploys/metrics/__init__.py",
    "deploys/metrics/exporter.py",
)

# What the store keeps of etcd's own metrics; docs/metrics.md lists the same.
ETCD_KEPT = (
    "etcd_server_(version|has_leader|is_leader|leader_changes_seen_total|quota_backend_bytes|slow_apply_total)",
    "etcd_server_proposals_(committed_total|pending|failed_total)",
    "etcd_mvcc_db_total_size_in(_use_in)?_bytes",
    "etcd_debugging_mvcc_(keys|watcher)_total",
    "etcd_disk_(wal_fsync|backend_commit)_duration_seconds_bucket",
    "etcd_network_peer_round_trip_time_seconds_bucket",
    "process_resident_memory_bytes",
)

HEARTBEAT = "griddle_collectd_starts"
"""A counter that each daemon sends itself by StatsD when it starts, and so reports each second ever after."""


def reporting(cluster: Cluster) -> list[Host]:
    """Hosts that send metrics: all but spare ones, which do nothing yet."""
    return [host for host in cluster.hosts.values() if host.groups - {"spare"}]


def store(cluster: Cluster) -> Host:
    """The host that keeps the metrics."""
    (host,) = cluster.group("metrics")
    return host


def daemon_files(cluster: Cluster, host: Host) -> dict[str, File]:
    """What every host runs: collectd, and what it cannot see, sent to it."""
    statsd_port = host.data["metrics_statsd_port"]
    conf = render(
        TEMPLATES / "collectd.conf.j2",
        host=host.name,
        statsd_port=statsd_port,
        store_address=store(cluster).address,
        store_port=host.data["metrics_graphite_port"],
    )
    drop_in = render(TEMPLATES / "collectd.service.j2", heartbeat=HEARTBEAT, statsd_port=statsd_port)
    command = [HOST_METRICS_PROGRAM, str(statsd_port)]
    if "proxies" in host.groups:
        command.append(str(host.data["proxy_port"]))
    unit = render(TEMPLATES / "griddle-host-metrics.service.j2", command=" ".join(command))
    return {
        DAEMON_CONF: File(conf),
        DAEMON_DROP_IN: File(drop_in),
        HOST_METRICS_PROGRAM: File((HERE / "files" / "host-metrics").read_text(), "755"),
        HOST_METRICS_UNIT: File(unit),
    }


def store_files(cluster: Cluster, host: Host) -> dict[str, File]:
    """The store's arguments, what it scrapes, and how it names what arrives."""
    return {
        STORE_ARGUMENTS: File(
            render(
                TEMPLATES / "victoria-metrics.j2",
                retention=host.data["metrics_retention"],
                memory=host.data["metrics_memory"],
                graphite=f"{host.address}:{host.data['metrics_graphite_port']}",
                http_port=host.data["metrics_http_port"],
                relabelling=STORE_RELABELLING,
                scraping=STORE_SCRAPING,
                # Every host's daemon has one connection, and for a moment two; the others are brief.
                inserts=2 * len(reporting(cluster)) + 16,
            )
        ),
        STORE_SCRAPING: File(
            render(TEMPLATES / "scrape.yml.j2", members=cluster.group("etcd"), pki=places.SERVICES, kept=ETCD_KEPT)
        ),
        STORE_RELABELLING: File((TEMPLATES / "relabel.yml").read_text()),
        STORE_DROP_IN: File((TEMPLATES / "victoria-metrics.service").read_text()),
    }


@dataclass(frozen=True)
class Database:
    """What the exporter has to know of FoundationDB: where it is, and what healthy means."""

    seed: ClusterFile
    limits: Limits


def exporter_files(cluster: Cluster, database: Database | None) -> dict[str, File]:
    """The exporter: its code, its configuration and its unit.

    :param database: None: the cluster has none
    """
    data = cluster.data
    conf: dict[str, Any] = {
        "store": f"http://127.0.0.1:{data['metrics_http_port']}/api/v1/import/prometheus",
        "hosts": [(host.name, _group(host)) for host in reporting(cluster)],
        "etcd": {
            "members": {
                host.name: f"https://{host.address}:{host.data['etcd_client_port']}"
                for host in cluster.group("etcd")
            },
            "ca": f"{places.SERVICES}/ca.crt",
            "cert": f"{places.SERVICES}/client.crt",
            "key": f"{places.SERVICES}/client.key",
        },
    }
    if database:
        limits = asdict(database.limits) | {"processes": sorted(database.limits.processes)}
        conf |= {
            "tools": [foundationdb.RELEASE_SCRIPT, EXPORTER_CLUSTER_FILE],
            "status": ["-C", EXPORTER_CLUSTER_FILE, "--no-status", "--timeout", "9", "--exec", "status json"],
            "limits": limits,
        }
    unit = render(
        TEMPLATES / "griddle-metrics-exporter.service.j2",
        conf=EXPORTER_CONF,
        code=EXPORTER_CODE,
        directory=EXPORTER_DIRECTORY,
        tls=EXPORTER_TLS if database and data["fdb_tls"] else {},
    )
    return {
        **{f"{EXPORTER_CODE}/{name}": File((HERE.parents[1] / name).read_text()) for name in EXPORTER_MODULES},
        EXPORTER_CONF: File(json.dumps(conf, indent=1) + "\n"),
        EXPORTER_UNIT: File(unit),
        **({EXPORTER_SEED: File(str(database.seed))} if database else {}),
    }


def _group(host: Host) -> str:
    return next(group for group in ("proxies", "apps", "fdb", "metrics", "etcd", "load") if group in host.groups)


def arriving_command(hosts: Iterable[Host], http_port: int) -> str:
    """A shell command, for the store's host: exit 0 when every host's StatsD counter was stored just now."""
    wanted = " ".join(sorted(host.name for host in hosts))
    query = f"group by (host) (last_over_time({HEARTBEAT}[20s]))"
    return "\n".join(
        [
            f"seen=$(curl -fsS --max-time 5 http://127.0.0.1:{http_port}/api/v1/query "
            f"--data-urlencode 'query={query}' | grep -o '\"host\":\"[^\"]*\"' | cut -d'\"' -f4)",
            "missing=",
            f'for host in {wanted}; do echo "$seen" | grep -qx "$host" || missing="$missing $host"; done',
            'echo "nothing received from:$missing"',
            '[ -z "$missing" ]',
        ]
    )
