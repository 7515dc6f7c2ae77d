"""What the metrics host finds out by asking: FoundationDB's state, etcd's alarms; and which hosts there should be.

    python3 -m deploys.metrics.exporter CONFIG

Runs on the metrics host under Debian's own Python, so it imports nothing but the standard library and the judge of
`status json`. Samples go to the store on the same host, in Prometheus's text format. A database that does not
answer is down: every gate is red then, and its other numbers end.
"""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from deploys.foundationdb import status
from deploys.foundationdb.status import MISSING, Document, Limits, get

EVERY_SECONDS = 10
ANSWER_SECONDS = 9
TOOLS_SECONDS = 20  # at once, unless several minor versions are here, as during an upgrade
POST_SECONDS = 3
MEMBER_SECONDS = 3
ALARMS = ("NOSPACE", "CORRUPT")

RATES = {
    "read_versions": "cluster.workload.transactions.started.hz",
    "commits": "cluster.workload.transactions.committed.hz",
    "conflicts": "cluster.workload.transactions.conflicted.hz",
    "reads": "cluster.workload.operations.reads.hz",
    "writes": "cluster.workload.operations.writes.hz",
    "bytes_read": "cluster.workload.bytes.read.hz",
    "bytes_written": "cluster.workload.bytes.written.hz",
    "limit": "cluster.qos.transactions_per_second_limit",
    "released": "cluster.qos.released_transactions_per_second",
}
# (series, label, {the label's value: field})
DATABASE: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("per_second", "what", RATES),
    (
        "lag_seconds",
        "kind",
        {
            "data": "cluster.qos.worst_data_lag_storage_server.seconds",
            "durability": "cluster.qos.worst_durability_lag_storage_server.seconds",
        },
    ),
    ("queue_bytes", "role", {role: f"cluster.qos.worst_queue_bytes_{role}_server" for role in ("log", "storage")}),
    (
        "probe_seconds",
        "what",
        {
            "read_version": "cluster.latency_probe.transaction_start_seconds",
            "read": "cluster.latency_probe.read_seconds",
            "commit": "cluster.latency_probe.commit_seconds",
        },
    ),
    (
        "data_bytes",
        "kind",
        {
            "keys_and_values": "cluster.data.total_kv_size_bytes",
            "disk": "cluster.data.total_disk_used_bytes",
            "moving": "cluster.data.moving_data.in_flight_bytes",
        },
    ),
    ("generation", "", {"": "cluster.generation"}),
    ("recovered_seconds", "", {"": "cluster.recovery_state.seconds_since_last_recovered"}),
    ("clients", "", {"": "cluster.clients.count"}),
)
PROCESS = {
    "cpu_cores": "cpu.usage_cores",
    "memory_bytes": "memory.rss_bytes",
    "disk_busy": "disk.busy",
    "disk_free_bytes": "disk.free_bytes",
    "run_loop_busy": "run_loop_busy",
}


def line(name: str, labels: Mapping[str, str], value: float) -> str:
    """One sample in Prometheus's text format."""

    def quoted(text: str) -> str:
        return str(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    inside = ",".join(f'{key}="{quoted(text)}"' for key, text in labels.items() if key)
    return f"{name}{{{inside}}} {value:.12g}"


def database(document: Document | None, limits: Limits) -> Iterator[str]:
    """Samples of FoundationDB's state: pure. What `status json` does not say has no sample."""
    yield line("griddle_fdb_up", {}, status.is_available(document))
    for gate in status.judge(document, limits).gates:
        yield line("griddle_fdb_gate", {"gate": gate.name}, gate.ok)
    for name, label, fields in DATABASE:
        for text, path in fields.items():
            yield from _number(f"griddle_fdb_{name}", {label: text}, get(document, path))
    processes = get(document, "cluster.processes")
    for process in processes.values() if isinstance(processes, Mapping) else ():
        yield from _process(process)


def _process(process: Mapping[str, Any]) -> Iterator[str]:
    endpoint = ":".join(str(process.get("address", "")).split(":")[:2])
    labels = {"host": str(get(process, "locality.machineid") or ""), "process": endpoint}
    about = {"version": process.get("version", ""), "class": process.get("class_type", "")}
    yield line("griddle_fdb_process", labels | about, 1)
    for name, path in PROCESS.items():
        yield from _number(f"griddle_fdb_process_{name}", labels, get(process, path))
    for role in {role.get("role", "") for role in process.get("roles", ())}:
        yield line("griddle_fdb_role", labels | {"role": role}, 1)


def _number(name: str, labels: Mapping[str, str], value: Any) -> Iterator[str]:
    if value is not MISSING and isinstance(value, int | float):
        yield line(name, labels, value)


def expected(hosts: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Samples of the hosts that the inventory has, as (name, group)."""
    for name, group in hosts:
        yield line("griddle_host_expected", {"host": name, "group": group}, 1)


def alarms(members: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Samples of etcd's alarms, pure: of each member that answers, 1 or 0 for each kind.

    :param members: {host: what its member says to maintenance/status, the alarms of all members among its errors}
    """
    errors = {str(error) for status in members.values() for error in status.get("errors", ())}
    raised = {match.groups() for error in errors if (match := re.match(r"memberID:(\d+) alarm:(\w+)", error))}
    hosts = {str(status["header"]["member_id"]): host for host, status in members.items()}
    hosts = {member: f"member {int(member):x}" for member, _ in raised} | hosts
    for member, host in hosts.items():
        for alarm in sorted({*ALARMS, *(kind for _, kind in raised)}):
            yield line("griddle_etcd_alarm", {"host": host, "alarm": alarm}, (member, alarm) in raised)


def ask_members(etcd: Mapping[str, Any]) -> dict[str, Any]:
    """{host: its member's answer to maintenance/status}, of those that answer."""
    tls = ssl.create_default_context(cafile=etcd["ca"])
    tls.load_cert_chain(etcd["cert"], etcd["key"])
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls))

    def status_of(url: str) -> Any:
        try:
            with opener.open(f"{url}/v3/maintenance/status", b"{}", timeout=MEMBER_SECONDS) as answer:
                return json.load(answer)
        except (OSError, ValueError) as error:
            print(f"{url}: {error}", file=sys.stderr)
            return None

    with ThreadPoolExecutor(len(etcd["members"])) as pool:
        answers = pool.map(status_of, etcd["members"].values())
        return {host: answer for host, answer in zip(etcd["members"], answers, strict=True) if answer}


def ask(tools: list[str], arguments: list[str]) -> Document | None:
    """What FoundationDB says of itself; None where it says nothing in time.

    :param tools: a command that prints the directory of the release whose tools the servers understand
    """
    try:
        release = _output(tools, TOOLS_SECONDS).strip()
        return status.parse(_output([f"{release}/bin/fdbcli", *arguments], ANSWER_SECONDS))
    except (OSError, subprocess.SubprocessError) as error:
        print(f"status json: {error}", file=sys.stderr)
        return None


def _output(command: list[str], seconds: float) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds).stdout


_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # not by a proxy of the environment


def post(url: str, lines: Iterable[str]) -> None:
    """Hand samples to the store. Where it is away they are lost: the next ones come soon."""
    try:
        with _DIRECTLY.open(url, "\n".join(lines).encode() + b"\n", timeout=POST_SECONDS) as answer:
            answer.read()
    except OSError as error:
        print(f"{url}: {error}", file=sys.stderr)


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text())
    limits = None
    if "limits" in config:
        given = config["limits"]
        limits = Limits(
            **{
                **given,
                "processes": frozenset(given["processes"]),
                "configuration": tuple(given["configuration"]),
            }
        )
    while True:
        started = time.monotonic()
        lines = list(expected(config["hosts"]))
        if limits:
            lines += database(ask(config["tools"], config["status"]), limits)
        try:
            lines += alarms(ask_members(config["etcd"]))
        except OSError as error:  # certificates that cannot be read just now
            print(f"etcd: {error}", file=sys.stderr)
        post(config["store"], lines)
        time.sleep(max(0.0, started + EVERY_SECONDS - time.monotonic()))


if __name__ == "__main__":
    main()
