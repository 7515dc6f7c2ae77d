"""`griddle etcd status`: every host is looked at, and all that was seen is shown on one screen."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster import ssh, table
from cluster.errors import Failure
from cluster.model import Cluster
from cluster.progress import step
from deploys.etcd import look
from deploys.etcd.look import Found
from ops import hosts

LOOK_SECONDS = ssh.CONNECT_SECONDS + 4 * look.ASK_SECONDS


def show(checkout: Path, inventory: str, *, as_json: bool) -> int:
    """Prints the screen, or one JSON document; 0 if etcd is healthy, else 1."""
    cluster = hosts.cluster(checkout / inventory)
    with step("asking every host", quiet_seconds=5):
        found = seen(cluster)
    if not found:
        raise Failure(f"no host of cluster {cluster.name} can be reached by SSH")
    document = summary(cluster, found)
    print(json.dumps(document, indent=1) if as_json else "\n".join(screen(document)))
    return 0 if document["healthy"] else 1


def seen(cluster: Cluster) -> dict[str, Found]:
    """{host: what it knows of etcd}, of the hosts that SSH reaches."""
    script = f"sudo sh -c {shlex.quote(look.command())}"
    answers = hosts.run_on(cluster.hosts.values(), script, LOOK_SECONDS)
    return {name: look.parse(text.splitlines()) for name, text in answers.items() if text is not None}


def summary(cluster: Cluster, found: Mapping[str, Found]) -> dict[str, Any]:
    """Everything that the screen says, for scripts: sizes in bytes, ids as etcdctl prints them."""
    group = [host.name for host in cluster.group("etcd")]
    names = {host.address: host.name for host in cluster.hosts.values()}
    status = {name: each.status for name, each in found.items() if each.status}
    clusters = {each.cluster for each in found.values() if each.answers}
    listed = {member.id: member for each in found.values() for member in each.members}
    hosts_shown = [*group, *(name for name, each in found.items() if name not in group and _has_etcd(each))]
    members = [_row(name, name in group, found.get(name)) for name in hosts_shown]
    known = {cluster.hosts[name].address for name in hosts_shown}
    members += [
        {"host": names.get(member.address, member.name or member.address), "state": "listed, not in group etcd"}
        for member in listed.values()
        if member.address not in known
    ]
    leaders = {each.leader for each in status.values() if each.leader}
    problems = []
    if len(clusters) > 1:
        problems.append(f"{len(clusters)} different clusters: {', '.join(f'{each:x}' for each in clusters)}")
    problems += [f"{row['host']}: {row['state']}" for row in members if row["state"] != "serves"]
    problems += [f"{row['host']}: alarm {alarm}" for row in members for alarm in row.get("alarms", ())]
    if len(leaders) != 1:
        problems.append(f"{len(leaders)} leaders")
    return {
        "cluster": cluster.name,
        "healthy": not problems,
        "problems": problems,
        "cluster_id": " ".join(f"{each:x}" for each in sorted(clusters)),
        "leader": ", ".join(member.name for each in leaders if (member := listed.get(each))),
        "operation": next((dict(each.operation) for each in found.values() if each.operation), None),
        "members": members,
    }


def _has_etcd(found: Found) -> bool:
    return bool(found.data) or found.runs


def _row(name: str, in_group: bool, found: Found | None) -> dict[str, Any]:
    if found is None:
        return {"host": name, "state": "not reached by SSH"}
    row: dict[str, Any] = {"host": name, "state": _state(found, in_group)}
    if found.snapshots:
        row["newest_snapshot"] = found.snapshots[-1]
    if found.answers:
        row["cluster_id"] = f"{found.cluster:x}"
    if status := found.status:
        row |= {
            "id": f"{status.id:x}",
            "leads": status.id == status.leader,
            "version": status.version,
            "revision": status.revision,
            "bytes": status.size,
            "bytes_in_use": status.in_use,
            "quota_bytes": status.quota,
            "alarms": list(status.alarms),
        }
    return row


def _state(found: Found, in_group: bool) -> str:
    if not in_group:
        return "runs outside group etcd" if found.runs else "has left-over data"
    if not found.data:
        return "has no data"
    if not found.answers:
        return f"does not answer ({found.active or 'not installed'})"
    if found.status is None:
        return "waits for a majority"
    own = next((member for member in found.members if member.id == found.status.id), None)
    if own and own.learner:
        return "is a learner"
    return "serves" if found.status.leader else "has no leader"


def screen(document: Mapping[str, Any]) -> list[str]:
    """The document for people."""
    verdict = "healthy" if document["healthy"] else "NOT HEALTHY"
    lines = [f"etcd of {document['cluster']}: {verdict}", ""]
    heads = ["host", "member", "version", "revision", "MiB", "in use", "quota", "state"]
    rows = [heads]
    for row in document["members"]:
        size, used, quota = (row.get(key) for key in ("bytes", "bytes_in_use", "quota_bytes"))
        rows.append(
            [
                row["host"],
                row.get("id", "-"),
                row.get("version", "-"),
                str(row.get("revision", "-")),
                f"{size / 2**20:.1f}" if size is not None else "-",
                f"{used / 2**20:.1f}" if used is not None else "-",
                f"{size / quota:.1%}" if quota else "-",
                "leads" if row.get("leads") else row["state"],
            ]
        )
    lines += table.aligned(rows).splitlines()
    lines += ["", f"cluster id  {document['cluster_id'] or '-'}"]
    snapshots = [(row["newest_snapshot"], row["host"]) for row in document["members"] if "newest_snapshot" in row]
    if snapshots:
        path, host = max(snapshots)
        lines.append(f"snapshot    {host}:{path}")
    if operation := document["operation"]:
        what, who, since = (operation.get(key) for key in ("operation", "owner", "started"))
        lines.append(f"under way   {what}, by {who} since {since}")
    lines += [f"problem     {problem}" for problem in document["problems"]]
    return lines
