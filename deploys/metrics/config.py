"""The metrics pipeline's files: StatsD → collectd on each host → Graphite lines → VictoriaMetrics. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from deploys.model import Cluster, Host
from deploys.render import render
from deploys.tree import File

TEMPLATES = Path(__file__).parent / "templates"

DAEMON = "collectd.service"
DAEMON_CONF = "/etc/collectd/collectd.conf"
DAEMON_DROP_IN = f"/etc/systemd/system/{DAEMON}.d/griddle.conf"

STORE = "victoria-metrics.service"
STORE_ARGUMENTS = "/etc/default/victoria-metrics"
STORE_RELABELLING = "/etc/victoria-metrics/relabel.yml"
STORE_DROP_IN = f"/etc/systemd/system/{STORE}.d/griddle.conf"

HEARTBEAT = "griddle_collectd_starts"
"""A counter that each daemon sends itself by StatsD when it starts, and so reports each second ever after."""


def reporting(cluster: Cluster) -> list[Host]:
    """Hosts that send metrics."""
    return cluster.groups(("proxies", "apps", "metrics"))


def store(cluster: Cluster) -> Host:
    """The host that keeps the metrics."""
    (host,) = cluster.group("metrics")
    return host


def daemon_files(cluster: Cluster, host: Host) -> dict[str, File]:
    statsd_port = host.data["metrics_statsd_port"]
    conf = render(
        TEMPLATES / "collectd.conf.j2",
        host=host.name,
        statsd_port=statsd_port,
        store_address=store(cluster).address,
        store_port=host.data["metrics_graphite_port"],
    )
    drop_in = render(TEMPLATES / "collectd.service.j2", heartbeat=HEARTBEAT, statsd_port=statsd_port)
    return {DAEMON_CONF: File(conf), DAEMON_DROP_IN: File(drop_in)}


def store_files(host: Host) -> dict[str, File]:
    return {
        STORE_ARGUMENTS: File(
            render(
                TEMPLATES / "victoria-metrics.j2",
                retention=host.data["metrics_retention"],
                memory=host.data["metrics_memory"],
                graphite=f"{host.address}:{host.data['metrics_graphite_port']}",
                http_port=host.data["metrics_http_port"],
                relabelling=STORE_RELABELLING,
            )
        ),
        STORE_RELABELLING: File((TEMPLATES / "relabel.yml").read_text()),
        STORE_DROP_IN: File((TEMPLATES / "victoria-metrics.service").read_text()),
    }


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
