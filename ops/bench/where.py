"""What a measurement ran on: versions and sizes of a cluster's hosts, and the CPU time of what runs there."""

from __future__ import annotations

import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cluster.model import Cluster
from cluster.paths import ROOT
from ops import hosts

_FACTS = r"""
echo "kernel $(uname -r)"
echo "cores $(nproc)"
awk '/^MemTotal/ {printf "memory_mb %d\n", $2 / 1024}' /proc/meminfo
awk -F': ' '/^model name/ {print "cpu " $2; exit}' /proc/cpuinfo
PATH=$PATH:/usr/sbin
for unit in nginx etcd; do
    systemctl -q is-active $unit || continue
    case $unit in nginx) nginx -v 2>&1 ;; etcd) etcd --version ;; esac |
        sed -n "1s|.*[/ ]\([0-9][0-9.]*\).*|$unit \1|p"
done
for kind in store front; do
    workers=$(systemctl list-units --no-legend --state=running "griddle-$kind@*" | wc -l)
    [ "$workers" = 0 ] || echo "${kind}_workers $workers"
done
sed -n '/^\[store\]/,/^\[[^s]/ s/^engine = "\(.*\)"/engine \1/p' /etc/griddle/griddle.toml 2>/dev/null
for slot in /etc/griddle/slots/*/VERSION; do [ ! -e "$slot" ] || echo "release $(cat "$slot")"; done
[ ! -e /opt/foundationdb/current ] || echo "foundationdb $(basename "$(readlink -f /opt/foundationdb/current)")"
"""

# CPU time is counted by control group whether or not the group has a cpu controller (cgroup-v2, cpu.stat).
# Both readings are one script, so that a host under load need not take a connection in order to be read.
_USED = """
cd /sys/fs/cgroup/unified 2>/dev/null || cd /sys/fs/cgroup || exit
used() {{
    read -r up _ < /proc/uptime; echo "up $up"
    grep -rs --include=cpu.stat usage_usec system.slice cpu.stat
}}
echo ready; sleep {before}; used; echo; sleep {between}; used
"""
_ROLES = {
    "nginx": "proxy",
    "griddle-front": "front",
    "griddle-store": "store",
    "foundationdb": "fdb",
    "fdbserver": "fdb",
    "etcd": "etcd",
}
ROLES = ("proxy", "front", "store", "fdb", "etcd", "other")


@dataclass(frozen=True)
class Used:
    """CPU seconds of one host since its start, by role, and when that was read (seconds on its own clock)."""

    at: float
    seconds: Mapping[str, float]


def described(cluster: Cluster) -> dict:
    """Versions and sizes by host; None for a host that was not reached."""
    said = hosts.run_on(cluster.hosts.values(), _FACTS)
    return {
        "cluster": cluster.name,
        "profile": sorted({host.data["base_profile"] for host in cluster.hosts.values()}),
        "hosts": {
            name: {"groups": sorted(cluster.hosts[name].groups), **parse_facts(text)} if text is not None else None
            for name, text in said.items()
        },
    }


def checkout() -> dict:
    """When, and of which revision."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=ROOT, capture_output=True, text=True
    )
    return {"time": datetime.now(UTC).isoformat(timespec="seconds"), "git": described.stdout.strip()}


class Reading:
    """Two readings of all hosts' CPU time, `before` seconds from when this returns and `between` seconds later."""

    def __init__(self, cluster: Cluster, before: float, between: float) -> None:
        script = _USED.format(before=before, between=between)
        self._on = {host.name: hosts.start(host, script) for host in cluster.hosts.values()}
        for name, process in list(self._on.items()):
            if process.stdout.readline() != "ready\n":  # not reached: ssh gives up by itself
                process.wait()
                del self._on[name]

    def cores(self) -> dict[str, dict[str, float]]:
        """{host: {role: cores that it used meanwhile}}, when both are done."""
        found = {}
        for name, process in self._on.items():
            before, _, after = process.communicate()[0].partition("\n\n")
            if after:
                found[name] = cores(parse_used(before), parse_used(after))
        return found


def cores(before: Used, after: Used) -> dict[str, float]:
    """{role: cores that it used} between two readings of one host."""
    seconds = after.at - before.at
    roles = before.seconds.keys() | after.seconds.keys()
    return {
        role: max(0.0, after.seconds.get(role, 0) - before.seconds.get(role, 0)) / seconds
        for role in sorted(roles)
    }


def us_per_request(cores_used: Mapping[str, Mapping[str, float]], requests_per_second: float) -> dict[str, float]:
    """{role: microseconds of CPU per request} over all hosts."""
    total: dict[str, float] = defaultdict(float)
    for roles in cores_used.values():
        for role, share in roles.items():
            total[role] += share
    return {role: total[role] * 1e6 / requests_per_second for role in ROLES if total[role]}


def parse_facts(text: str) -> dict[str, str | int]:
    """From `_FACTS`."""
    found: dict[str, str | int] = {}
    for name, _, value in (line.partition(" ") for line in text.splitlines()):
        found[name] = int(value) if value.isdecimal() else value
    return found


def parse_used(text: str) -> Used:
    """From `_USED`. `other` is what the host used that no role did."""
    at, whole, seconds = 0.0, 0.0, Counter()
    for line in text.splitlines():
        if line.startswith("up "):
            at = float(line.split()[1])
        elif match := re.fullmatch(r"(?:(\S+)/)?cpu\.stat:usage_usec (\d+)", line):
            group, used_seconds = match[1] or "", int(match[2]) / 1e6
            if not group:
                whole = used_seconds
            elif role := _role(group):
                seconds[role] += used_seconds
    seconds["other"] = max(0.0, whole - seconds.total())
    return Used(at, dict(seconds))


def _role(group: str) -> str | None:
    unit = group.rpartition("/")[2]
    return _ROLES.get(re.split(r"[@.]", unit)[0]) if unit.endswith(".service") else None


def differences(a: Mapping, b: Mapping) -> list[str]:
    """What differs between two descriptions, as `name: a → b`, apart from the time."""
    one, other = dict(_flat(a)), dict(_flat(b))
    return [
        f"{name}: {one.get(name, 'none')} → {other.get(name, 'none')}"
        for name in sorted(one.keys() | other.keys())
        if name != "time" and one.get(name) != other.get(name)
    ]


def _flat(tree: Mapping, prefix: str = ""):
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)
