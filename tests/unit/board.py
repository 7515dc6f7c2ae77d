"""The board on loopback, for tests: a real metrics store with a made-up past, and nginx with the page in front."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cluster.model import Cluster
from deploys.metrics import page
from ops.process import die_with_parent
from tests.unit.serving import NGINX
from tests.unit.stores import free_port, listens, wait_until

STORE = shutil.which("victoria-metrics")
DYGRAPHS = Path("/usr/share/javascript/dygraphs/dygraph.min.js")
BOUNDS_MS = ("1", "2.5", "5", "10", "25", "50", "100", "250", "1000", "+Inf")


def missing() -> str | None:
    if not (STORE and NGINX and DYGRAPHS.exists()):
        return "the board needs Debian packages victoria-metrics, nginx-light and libjs-dygraphs"
    return None


@dataclass
class LocalBoard:
    """A store and an nginx in a directory, both as child processes."""

    directory: Path
    cluster: Cluster
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ports = {"store": free_port(), "nginx": free_port()}
        self.address = f"http://127.0.0.1:{self.ports['nginx']}"
        root = self.directory / "board"
        for name, content in page.page_files().items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content)
        (root / "cluster.json").write_text(json.dumps(page.told(self.cluster)))
        values = page.BoardNginx(
            listen=f"127.0.0.1:{self.ports['nginx']}", store_port=self.ports["store"], root=str(root),
            user="" if os.geteuid() else "root",
            pid=str(self.directory / "nginx.pid"), error_log=str(self.directory / "error.log"),
            temp=str(self.directory),
        )  # fmt: skip
        (self.directory / "nginx.conf").write_text(page.nginx_conf(values))

    def start(self, *names: str) -> None:
        commands = {
            "store": [
                STORE, f"-storageDataPath={self.directory / 'store'}", "-memory.allowedBytes=128MB",
                f"-httpListenAddr=127.0.0.1:{self.ports['store']}", "-search.latencyOffset=1s",
                "-retentionPeriod=30d", "-search.disableCache", "-loggerLevel=ERROR",
            ],
            "nginx": [
                NGINX, "-p", f"{self.directory}/", "-c", str(self.directory / "nginx.conf"),
                "-e", str(self.directory / "error.log"), "-g", "daemon off;",
            ],
        }  # fmt: skip
        for name in names or commands:
            self.processes[name] = subprocess.Popen(
                commands[name], preexec_fn=die_with_parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            wait_until(f"{name} listens", lambda name=name: listens(self.ports[name]))

    def stop(self, *names: str) -> None:
        for name in names or list(self.processes):
            process = self.processes.pop(name)
            process.terminate()
            process.wait(timeout=20)

    def put(self, lines: Iterable[str]) -> None:
        """Samples in Prometheus's text format, with milliseconds."""
        url = f"http://127.0.0.1:{self.ports['store']}/api/v1/import/prometheus"
        urllib.request.urlopen(urllib.request.Request(url, "".join(lines).encode()), timeout=30).read()
        # What was imported can be asked for once the store has flushed it.
        urllib.request.urlopen(f"http://127.0.0.1:{self.ports['store']}/internal/force_flush", timeout=30).read()

    def value(self, query: str) -> float:
        """The one value that an instant question to the store finds."""
        url = f"http://127.0.0.1:{self.ports['store']}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        (series,) = json.loads(urllib.request.urlopen(url, timeout=10).read())["data"]["result"]
        return float(series["value"][1])


def sample(name: str, value: float, seconds: float, **labels: str) -> str:
    inside = ",".join(f'{label}="{text}"' for label, text in labels.items())
    return f"{name}{{{inside}}} {value:.3f} {seconds * 1000:.0f}\n"


def past(
    cluster: Cluster,
    start: float,
    end: float,
    *,
    step: int = 5,
    down: Iterable[str] = (),
    slow_since: float = 1e12,
    hole: tuple[float, float] = (0, 0),
) -> Iterator[str]:
    """Samples of a cluster between two times (Unix seconds).

    :param down: hosts that are never heard
    :param slow_since: from then on 4 % of the reads take 25 to 100 ms and some are shed; before, 0.2 % and none
    :param hole: no sample at all between these
    """  # fmt: skip
    down = set(down)
    for second in range(int(start) // step * step, int(end) + 1, step):
        if hole[0] <= second < hole[1]:
            continue
        for host in cluster.hosts.values():
            if host.name not in down:
                yield from _host(host.name, host.groups, second, slow_since)
        if cluster.store_engine == "fdb" and "metrics1" not in down:
            yield from _fdb(cluster, second, down)


def _host(host: str, groups: frozenset[str], at: int, slow_since: float) -> Iterator[str]:
    seed = sum(host.encode())
    wave = math.sin(at / 600 + seed) + 0.4 * math.sin(at / 47 + seed)
    passed = at % 10_000_000
    slow = 0.002 + 0.038 * max(0, at - slow_since) / passed  # of all reads so far

    def counter(name: str, per_second: float, **labels: str) -> str:
        return sample(name, passed * per_second, at, host=host, **labels)

    def gauge(name: str, value: float, **labels: str) -> str:
        return sample(name, value, at, host=host, **labels)

    yield gauge("griddle_collectd_starts", 1)
    yield gauge("griddle_host_expected", 1, group=min(groups))
    yield gauge("cpu_percent", 62 - 14 * wave, device="0", kind="idle")
    yield gauge("griddle_host_run_queue", max(0, round(2 + 1.5 * wave)))
    yield gauge("memory_memory", 3e9 + 2e8 * wave, kind="free")
    yield gauge("df_percent_bytes", 20 + seed % 40, device="/", kind="used")
    yield counter("interface_if_octets_rx", 4e5 + seed * 900, device="host0")
    yield counter("interface_if_octets_tx", 6e5 + seed * 700, device="host0")
    yield counter("protocols_protocol_counter", (seed % 7) / 50, kind="RetransSegs")
    yield counter("protocols_protocol_counter", 0, kind="ListenDrops")
    yield counter("griddle_host_softnet", 0, kind="dropped")
    yield counter("disk_disk_io_time_io_time", 30 + seed % 90, device="vda")
    if "proxies" in groups:
        for worker in "01":
            yield gauge("griddle_proxy_worker", 1, worker=worker)
        yield counter("griddle_nginx_requests", 620)
        yield gauge("griddle_nginx_connections", round(120 + 30 * wave), state="active")
        for lane, reads in (("direct", 500), ("wsgi", 90)):
            labels = {"lane": lane, "release": "r-0123456789ab", "variant": "-"}
            yield from _buckets("griddle_read_ms", reads, slow, passed, at, host=host, **labels)
            yield gauge("griddle_read_shed", 0.2 * max(0, at - slow_since), reason="expired", **labels)
        yield from _buckets("griddle_write_ms", 12, 0.1, passed, at, host=host, lane="wsgi",
                            release="r-0123456789ab", variant="-")  # fmt: skip
    if "apps" in groups:
        labels = {"slot": "a", "release": "r-0123456789ab"}
        for unit in ("store", "front"):
            for worker in "01":
                yield gauge("griddle_worker", 1, unit=unit, worker=worker, **labels)
        yield gauge("griddle_worker", 1, unit="feed", worker="0", **labels)
        yield counter("griddle_store_requests", 400, **labels)
        yield counter("griddle_store_batches", 130, **labels)
        yield from _buckets("griddle_store_read_ms", 400, slow / 2, passed, at, host=host, **labels)
        yield from _buckets("griddle_store_write_ms", 8, 0.05, passed, at, host=host, **labels)
        yield from _buckets("griddle_front_answer_ms", 60, slow, passed, at, host=host, **labels)
        yield counter("griddle_front_answers", 60, status="200", **labels)
        yield counter("griddle_feed_events", 6, **labels)
    if "etcd" in groups:
        yield gauge("up", 1, job="etcd")
        yield gauge("etcd_server_is_leader", host == "app1")
        yield gauge("etcd_server_version", 1, server_version="3.4.23")
        yield gauge("etcd_mvcc_db_total_size_in_bytes", 21e6)
        yield gauge("etcd_server_quota_backend_bytes", 2 * 2**30)
        yield counter("etcd_server_proposals_committed_total", 14)
        for bound, share in (("0.001", 0.4), ("0.004", 0.95), ("0.016", 1), ("+Inf", 1)):
            yield counter("etcd_disk_wal_fsync_duration_seconds_bucket", 14 * share, le=bound)
            yield counter("etcd_network_peer_round_trip_time_seconds_bucket", 2 * share, le=bound)


def _buckets(name: str, rate: float, slow: float, passed: int, at: int, **labels: str) -> Iterator[str]:
    """Four of five within 2.5 ms, the rest within 25, but for a share of slow ones."""
    shares = dict.fromkeys(BOUNDS_MS, 1.0)
    shares |= {"1": 0.3, "2.5": 0.8, "5": 0.97 * (1 - slow), "10": 0.99 * (1 - slow), "25": 1 - slow}
    shares["50"] = 1 - slow / 2
    for bound, share in shares.items():
        yield sample(f"{name}_bucket", passed * rate * share, at, le=bound, **labels)
    yield sample(f"{name}_count", passed * rate, at, **labels)


def _fdb(cluster: Cluster, at: int, down: set[str]) -> Iterator[str]:
    gone = {host.name for host in cluster.group("fdb")} & down
    wave = math.sin(at / 300)
    yield sample("griddle_fdb_up", 1, at)
    for gate in ("available", "healthy", "full_replication", "coordinators", "log_queues", "storage_lag"):
        green = not (gone and gate in ("full_replication", "coordinators"))
        yield sample("griddle_fdb_gate", green, at, gate=gate)
    for kind, value in (("data", 0.4), ("durability", 5.2)):
        yield sample("griddle_fdb_lag_seconds", value + 0.1 * wave, at, kind=kind)
    for role, value in (("log", 8e6), ("storage", 5e6)):
        yield sample("griddle_fdb_queue_bytes", value * (1 + 0.2 * wave), at, role=role)
    for what, value in (("read_versions", 410), ("commits", 25), ("conflicts", 0.1)):
        yield sample("griddle_fdb_per_second", value * (1 + 0.1 * wave), at, what=what)
    for what, value in (("read_version", 0.0011), ("read", 0.0006), ("commit", 0.0042)):
        yield sample("griddle_fdb_probe_seconds", value * (1 + 0.2 * wave), at, what=what)
    yield sample("griddle_fdb_clients", 9, at)
    yield sample("griddle_fdb_recovered_seconds", at % 100_000, at)
    for host in cluster.group("fdb"):
        if host.name not in down:
            labels = {"host": host.name, "process": f"{host.address}:4500"}
            yield sample("griddle_fdb_process", 1, at, version="7.3.77", **{"class": "unset"}, **labels)
            yield sample("griddle_fdb_process_cpu_cores", 0.06 + 0.02 * wave, at, **labels)
            yield sample("griddle_fdb_process_disk_busy", 0.03, at, **labels)
