"""What the metrics' data must be."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.check import Checks
from cluster.data import HOST, Setting
from cluster.forms import LINE, PORT, RETENTION, SIZE, networks, one_of, share
from cluster.model import Cluster, Host
from services.metrics import BOUNDS_MS

SETTINGS = {
    "metrics_statsd_port": Setting(PORT),
    "metrics_graphite_port": Setting(PORT),
    "metrics_http_port": Setting(PORT),
    "metrics_memory": Setting(SIZE, HOST, "metrics"),
    "metrics_retention": Setting(RETENTION),
    "metrics_promise_ms": Setting(one_of(*BOUNDS_MS)),
    "metrics_promise_share": Setting(share()),
    "metrics_board_port": Setting(PORT),
    "metrics_board_from": Setting(networks(0)),
    "metrics_board_note": Setting(LINE),
}


def ports(cluster: Cluster, host: Host) -> Iterator[tuple[int, str]]:
    if "metrics" in host.groups:
        for key in ("metrics_graphite_port", "metrics_http_port", "metrics_board_port"):
            yield host.data[key], key


CHECKS = Checks(settings=SETTINGS, ports=ports)
