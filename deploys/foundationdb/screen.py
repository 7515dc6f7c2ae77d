"""What `fdb status` shows: one document, and one screen of it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from cluster.table import aligned
from deploys.foundationdb import status
from deploys.foundationdb.status import Document, Limits, get
from deploys.foundationdb.upgrade_plan import HostSeen

MANY = 6  # addresses on one line


def summary(
    document: Document | None,
    limits: Limits,
    hosts: Mapping[str, HostSeen],
    unreachable: Iterable[str],
    operation: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Everything that the screen says, for scripts. A value that the database did not tell is null."""
    health = status.judge(document, limits)
    return {
        "available": status.is_available(document),
        "healthy": health.ok,
        "operation": dict(operation) if operation else None,
        "configuration": {
            "redundancy": _value(document, "cluster.configuration.redundancy_mode"),
            "engine": _value(document, "cluster.configuration.storage_engine"),
        },
        "versions": sorted({process.version for process in status.processes(document)}),
        "processes": [_process(process) for process in _processes(document)],
        "coordinators": [
            {"address": each.get("address"), "reachable": each.get("reachable") is True}
            for each in _list(document, "client.coordinators.coordinators")
        ],
        "survives": {
            what: _value(document, f"cluster.fault_tolerance.max_zone_failures_without_losing_{what}")
            for what in ("data", "availability")
        },
        "recovery": {
            "state": _value(document, "cluster.recovery_state.name"),
            "seconds_ago": _value(document, "cluster.recovery_state.seconds_since_last_recovered"),
        },
        "data": {
            "state": _value(document, "cluster.data.state.name"),
            "kv_bytes": _value(document, "cluster.data.total_kv_size_bytes"),
            "disk_bytes": _value(document, "cluster.data.total_disk_used_bytes"),
            "moving_bytes": _value(document, "cluster.data.moving_data.in_flight_bytes"),
            "waiting_bytes": _value(document, "cluster.data.moving_data.in_queue_bytes"),
        },
        "lag_seconds": {
            what: _value(document, f"cluster.qos.worst_{what}_lag_storage_server.seconds")
            for what in ("data", "durability")
        },
        "queue_bytes": {
            role: _value(document, f"cluster.qos.worst_queue_bytes_{role}_server") for role in ("log", "storage")
        },
        "per_second": {
            "reads": _value(document, "cluster.workload.operations.reads.hz"),
            "writes": _value(document, "cluster.workload.operations.writes.hz"),
            "commits": _value(document, "cluster.workload.transactions.committed.hz"),
            "conflicts": _value(document, "cluster.workload.transactions.conflicted.hz"),
        },
        "clients": [_client(each) for each in _list(document, "cluster.clients.supported_versions")],
        "hosts": {
            name: {
                "current": host.current,
                "staged": sorted(host.releases),
                "running": sorted(host.running),
                "configured": host.configured or None,
            }
            for name, host in hosts.items()
        },
        "unreachable_hosts": sorted(unreachable),
        "gates": [{"gate": gate.name, "seen": gate.seen, "ok": gate.ok} for gate in health.gates],
    }


def screen(cluster: str, seen: Mapping[str, Any]) -> list[str]:
    """The summary for people."""
    return [*_head(cluster, seen), "", *_process_table(seen), "", *_hosts(seen), "", *_gates(seen)]


def _head(cluster: str, seen: Mapping[str, Any]) -> list[str]:
    red = sum(1 for gate in seen["gates"] if not gate["ok"])
    words = "healthy" if seen["healthy"] else f"{red} of {len(seen['gates'])} gates red"
    available = "available" if seen["available"] else "NOT AVAILABLE"
    configuration = seen["configuration"]
    what = (
        f"{configuration['redundancy']} {configuration['engine']}" if configuration["redundancy"] else "database"
    )
    lines = [f"FoundationDB of {cluster}: {what}, {' and '.join(seen['versions']) or '?'}: {available}, {words}"]
    if operation := seen["operation"]:
        lines.append(
            f"  under way     {operation.get('operation')}, by {operation.get('owner')} since "
            f"{operation.get('started')}"
        )
    if seen["unreachable_hosts"]:
        lines.append(f"  no answer     by ssh from {', '.join(seen['unreachable_hosts'])}")
    coordinators = seen["coordinators"]
    reachable = [each for each in coordinators if each["reachable"]]
    lost = [str(each["address"]) for each in coordinators if not each["reachable"]]
    lines.append(
        f"  coordinators  {len(reachable)} of {len(coordinators)} reachable"
        + (f"; not {', '.join(lost)}" if lost else "")
    )
    if not seen["available"]:
        lines.append("  the database itself says no more than this; what its hosts say is below")
        return lines
    survives, recovery, data = seen["survives"], seen["recovery"], seen["data"]
    # Data distribution's estimate, which begins at 0 and grows with what it samples.
    stored = _bytes(data["kv_bytes"]) if data["kv_bytes"] else "no estimate yet"
    rate, lag, queue = seen["per_second"], seen["lag_seconds"], seen["queue_bytes"]
    return [
        *lines,
        f"  survives      the loss of {_show(survives['data'])} zones without losing data, "
        f"{_show(survives['availability'])} without losing availability",
        f"  recovery      {_show(recovery['state'])}, {_seconds(recovery['seconds_ago'])} ago",
        f"  data          {stored} ({_bytes(data['disk_bytes'])} on disks), "
        f"{_show(data['state'])}; moving {_bytes(data['moving_bytes'])}, waiting {_bytes(data['waiting_bytes'])}",
        f"  lag           data {_seconds(lag['data'])}, durability {_seconds(lag['durability'])} (5 s is usual); "
        f"queues: log {_bytes(queue['log'])}, storage {_bytes(queue['storage'])}",
        f"  per second    {_show(rate['reads'])} reads, {_show(rate['writes'])} writes, {_show(rate['commits'])} "
        f"commits, {_show(rate['conflicts'])} conflicts",
        *_clients(seen),
    ]


def _clients(seen: Mapping[str, Any]) -> list[str]:
    lines = []
    for client in seen["clients"]:
        addresses = client["addresses"]
        if addresses:
            more = f" and {len(addresses) - MANY} more" if len(addresses) > MANY else ""
            lines.append(
                f"  clients       {client['count']} of {client['version']}, protocol {client['protocol']}: "
                f"{', '.join(addresses[:MANY])}{more}"
            )
    return lines


def _process_table(seen: Mapping[str, Any]) -> list[str]:
    if not seen["processes"]:
        return ["  processes: the database named none"]
    rows = [("process", "zone", "version", "class", "cpu", "memory", "disk free", "roles")]
    for each in seen["processes"]:
        marks = " EXCLUDED" if each["excluded"] else ""
        rows.append(
            (
                each["address"], each["zone"], each["version"], each["class"],
                "-" if each["cpu_cores"] is None else f"{each['cpu_cores']:.2f}",
                _bytes(each["memory_bytes"]), _bytes(each["disk_free_bytes"]),
                (", ".join(each["roles"]) or "none") + marks,
            )
        )  # fmt: skip
    return _aligned(rows)


def _hosts(seen: Mapping[str, Any]) -> list[str]:
    rows = [("host", "version", "runs", "staged")]
    for name, host in seen["hosts"].items():
        configured = host["configured"]
        aside = f", processes start as {configured}" if configured and configured != host["current"] else ""
        runs = ", ".join(host["running"]) or "-"
        rows.append((name, (host["current"] or "none") + aside, runs, ", ".join(host["staged"]) or "none"))
    return _aligned(rows)


def _gates(seen: Mapping[str, Any]) -> list[str]:
    return [
        "  gates",
        *(f"    {'ok ' if gate['ok'] else 'RED'} {gate['gate']}: {gate['seen']}" for gate in seen["gates"]),
    ]


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    return aligned(rows, left=range(len(rows[0])), indent=2).splitlines()


def _processes(document: Document | None) -> list[Mapping[str, Any]]:
    found = get(document, "cluster.processes")
    values = found.values() if isinstance(found, Mapping) else ()
    return sorted(
        (each for each in values if isinstance(each, Mapping)), key=lambda each: str(each.get("address"))
    )


def _process(each: Mapping[str, Any]) -> dict[str, Any]:
    roles = Counter(str(role.get("role")) for role in each.get("roles", []))
    return {
        "address": str(each.get("address", "?")),
        "zone": str(get(each, "locality.zoneid") or "?"),
        "version": str(each.get("version", "?")),
        "class": str(each.get("class_type", "?")),
        "excluded": each.get("excluded") is True,
        "roles": sorted(f"{count} {role}" if count > 1 else role for role, count in roles.items()),
        "cpu_cores": _value(each, "cpu.usage_cores"),
        "memory_bytes": _value(each, "memory.rss_bytes"),
        "disk_free_bytes": _value(each, "disk.free_bytes"),
        "messages": [str(message.get("name")) for message in each.get("messages", [])],
    }


def _client(supported: Mapping[str, Any]) -> dict[str, Any]:
    hosts = Counter(
        str(each.get("address", "?")).rpartition(":")[0] for each in supported.get("connected_clients", [])
    )
    return {
        "version": str(supported.get("client_version", "?")),
        "protocol": str(supported.get("protocol_version", "?")),
        "count": supported.get("count", 0),
        "addresses": sorted(f"{address} ({count})" if count > 1 else address for address, count in hosts.items()),
    }


def _value(document: Any, path: str) -> Any:
    found = get(document, path)
    return None if found is status.MISSING else found


def _list(document: Any, path: str) -> list[Mapping[str, Any]]:
    found = get(document, path)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
    return "?" if value is None else str(value)


def _seconds(value: Any) -> str:
    if not isinstance(value, int | float):
        return "?"
    return (
        f"{value:.1f} s" if value < 100 else f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.0f} h"
    )


def _bytes(value: Any) -> str:
    if not isinstance(value, int | float):
        return "?"
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
