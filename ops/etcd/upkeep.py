"""`griddle etcd compact`, `defragment`, `disarm`: room in etcd, while it serves.

They go by the members' own hosts, under the cluster's lock, which is not in etcd. Plans are pure; it is looked
again before each step, so an interrupted command goes on when it is called again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster import marks, ssh
from cluster.errors import Failure, UserError
from cluster.model import Cluster
from cluster.progress import say, step
from deploys.etcd.look import Found, Status
from ops import hosts, lock
from ops.etcd import status
from services.engines.etcd_space import FULL_SHARE

WATCHERS_SECONDS = 10  # whoever reads or watches at an older revision has ended, or has been told of a newer one
COMPACT_SECONDS = 600
DEFRAGMENT_SECONDS = 1800
SERVE_SECONDS = 60


def compact(checkout: Path, inventory: str, *, dry: bool) -> None:
    """Forget all history but that of the last seconds."""
    cluster = hosts.cluster(checkout / inventory)
    revision = max(each.revision for each in _all_serve(cluster).values())
    say(f"    1. forget what was before revision {revision}, {WATCHERS_SECONDS} s from now")
    if dry:
        return
    with lock.held(cluster, "etcd compact") as held, marks.span(cluster, "etcd", "compact"):
        with step(f"etcd: {WATCHERS_SECONDS} s, for who reads at an older revision"):
            time.sleep(WATCHERS_SECONDS)
        held.check()
        name = next(iter(_all_serve(cluster)))
        with step(f"etcd: compact to revision {revision}"):
            _run(cluster, name, f"compact --physical {revision}", COMPACT_SECONDS, ("has been compacted",))
    _say_sizes(_all_serve(cluster))


def defragment(checkout: Path, inventory: str, *, dry: bool) -> None:
    """Give back the room that is not in use, member by member, the leader last and only when it leads no more."""
    cluster = hosts.cluster(checkout / inventory)
    order = in_order(_all_serve(cluster))
    for number, name in enumerate(order, 1):
        say(f"    {number}. defragment {name}")
    if dry:
        return
    before = _all_serve(cluster)
    with lock.held(cluster, "etcd defragment") as held, marks.span(cluster, "etcd", "defragment"):
        for name in order:
            held.check()
            seen = _all_serve(cluster, SERVE_SECONDS)
            if (heir := _heir(seen, name)) is not None:
                with step(f"etcd: {name} hands over to {heir}"):
                    _run(cluster, name, f"move-leader {seen[heir].id:x}", 30)
            with step(f"etcd: defragment {name}"):
                _run(cluster, name, "defrag", DEFRAGMENT_SECONDS)
    _say_sizes(_all_serve(cluster, SERVE_SECONDS), before)


def disarm(checkout: Path, inventory: str, *, dry: bool) -> None:
    """Take back alarms, once there is room."""
    cluster = hosts.cluster(checkout / inventory)
    seen = _all_serve(cluster)
    raised = alarms(seen)
    if not raised:
        say("    no alarm is up: nothing is left to do")
        return
    if lines := refusals(seen, raised):
        raise UserError("; ".join(lines))
    say(f"    1. take back {', '.join(raised)}")
    if dry:
        return
    with lock.held(cluster, "etcd disarm"), marks.span(cluster, "etcd", "disarm"):
        _run(cluster, next(iter(seen)), "alarm disarm", 30)
        if left := alarms(_all_serve(cluster)):
            raise Failure(f"{', '.join(left)}: up again at once: ./griddle etcd status")
    say("    etcd takes writes again")


# --- decisions: pure


def serving(found: Mapping[str, Found], group: Sequence[str]) -> dict[str, Status]:
    """{host: its member's status} of the whole group.

    :raises UserError: one of them does not serve; another is not taken away as well, even for a moment
    """
    missing = [name for name in group if not ((each := found.get(name)) and (said := each.status) and said.leader)]
    if missing:
        raise UserError(f"{', '.join(missing)}: no member that serves; bring it back first: ./griddle etcd status")
    return {name: found[name].status for name in group}


def in_order(seen: Mapping[str, Status]) -> list[str]:
    """Members in the order in which they stand still for a moment: who leads comes last."""
    return sorted(seen, key=lambda name: (seen[name].id == seen[name].leader, list(seen).index(name)))


def _heir(seen: Mapping[str, Status], name: str) -> str | None:
    """Who leads after `name`, which does now; None where it does not, or is alone."""
    if seen[name].id != seen[name].leader:
        return None
    return next((other for other in seen if other != name), None)


def alarms(seen: Mapping[str, Status]) -> list[str]:
    """Kinds of alarms that are up somewhere, such as NOSPACE."""
    return sorted({alarm for each in seen.values() for alarm in each.alarms})


def refusals(seen: Mapping[str, Status], raised: Sequence[str]) -> list[str]:
    """Why alarms must stay up."""
    found = [
        f"{name} uses {each.size / each.quota:.0%} of its quota, so the alarm would be up again at once: "
        "./griddle etcd compact and defragment, or raise etcd_quota_bytes and apply"
        for name, each in seen.items()
        if each.quota and each.size / each.quota >= FULL_SHARE
    ]
    if "CORRUPT" in raised:  # all alarms are taken back together
        found.append("CORRUPT is up: a member's data differ from the others': ./griddle etcd replace it first")
    return found


# --- effects


def _all_serve(cluster: Cluster, seconds: float = 0) -> dict[str, Status]:
    """See `serving`; waits so long for it. Raises UserError."""
    group, end = [host.name for host in cluster.group("etcd")], time.monotonic() + seconds
    while True:
        try:
            return serving(status.seen(cluster), group)
        except UserError:
            if time.monotonic() > end:
                raise
        time.sleep(1)


def _run(cluster: Cluster, name: str, words: str, seconds: float, good: Sequence[str] = ()) -> None:
    """etcdctl on a member's host, which asks that member. Raises Failure unless what it said is among `good`."""
    script = f"sudo griddle-etcdctl --command-timeout {seconds:.0f}s {words}"
    done = hosts.run(cluster.hosts[name], script, seconds + ssh.CONNECT_SECONDS)
    said = (done.stderr or done.stdout).decode(errors="replace").strip()
    if done.returncode and not any(each in said for each in good):
        problem = re.sub(r'^\{"level.*?\n|^Error: ', "", said) or "no answer"
        raise Failure(f"{name}: etcdctl {words}: {problem}; the same command goes on from there")


def _say_sizes(seen: Mapping[str, Status], before: Mapping[str, Status] | None = None) -> None:
    for name, each in seen.items():
        was = f"{before[name].size / 2**20:.1f} → " if before else ""
        say(f"    {name}: {was}{each.size / 2**20:.1f} MiB, {each.in_use / 2**20:.1f} of them in use"
            + (f", {each.size / each.quota:.0%} of the quota" if each.quota else ""))  # fmt: skip
