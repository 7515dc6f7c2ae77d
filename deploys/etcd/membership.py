"""What an apply may do to etcd, and the verbs `etcd add`, `remove`, `replace`: both look at every host first."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from gevent import sleep
from gevent.lock import BoundedSemaphore

from cluster import model
from cluster.errors import Failure
from cluster.model import Cluster
from cluster.progress import say
from deploys.conductor import conduct
from deploys.conductor.conduct import Plan, Verb
from deploys.etcd import config, judge, look, membership_plan
from deploys.etcd.judge import Hosts, Seen, Verdict
from deploys.etcd.membership_plan import MembersTarget
from deploys.framework import units
from deploys.framework.refusal import end_refused
from deploys.framework.shell import exclusive

INPUTS = ["/etc/etcd", f"/etc/systemd/system/{config.UNIT}"]
STARTING_SECONDS = 15
LOOKS = 4
PROMOTE_SECONDS = 600
SERVE_SECONDS = 60
_FILES = (
    "/etc/etcd /etc/systemd/system/etcd.service /etc/systemd/system/griddle-etcd-snapshot.* "
    "/usr/local/sbin/griddle-etcd* /var/lib/griddle/applied/etcd.service"
)

_judging = BoundedSemaphore()


def hosts_of(cluster: Cluster) -> Hosts:
    """The inventory, as member lists spell it."""
    group = cluster.group("etcd")
    others = [host for host in cluster.hosts.values() if host not in group]
    return Hosts(cluster.name, config.peers(group), config.peers(others))


def look_at_hosts() -> Seen:
    """What every host that is connected says. Raises Failure."""
    script = look.command()
    return conduct.on_all(model.cluster().hosts, lambda on: look.parse(conduct.run(on, script, "look at etcd")))


@cache
def _verdict() -> Verdict:
    """By the first host that asks; what an earlier run has just started is given time to answer."""
    hosts, deadline = hosts_of(model.cluster()), time.monotonic() + STARTING_SECONDS
    while True:
        seen = look_at_hosts()
        found = judge.judge(seen, hosts)
        starting = any(each.runs and each.data and not each.answers for each in seen.values())
        if not (found.refusals and starting) or time.monotonic() > deadline:
            break
        sleep(1)
    for line in found.refusals:
        say(f"griddle: {line}")
    return found


def verdict() -> Verdict:
    """What this apply may do to etcd. Ends the run with exit code 2 where that is nothing."""
    with _judging:
        found = _verdict()
        if found.refusals:
            end_refused()
        return found


class Membership(Verb):
    """One of the three verbs, by what it is asked for."""

    def __init__(self, title: str, join: tuple[str, ...] = (), leave: tuple[str, ...] = ()) -> None:
        self.title = title
        self._cluster = model.cluster()
        self._hosts = hosts_of(self._cluster)
        self._target = MembersTarget(self._hosts, join, leave)

    def look(self) -> Seen:
        """What hosts say; once more where a member that runs does not answer, which may be for lack of time."""
        names = {*self._hosts.group, *self._target.leave}
        for attempt in range(LOOKS):
            seen = look_at_hosts()
            asked = [found for name, found in seen.items() if name in names]
            if all(membership_plan.serves(found) for found in asked if found.runs and found.data):
                break
            sleep(attempt)
        return seen

    def plan(self, seen: Seen) -> Plan:
        return membership_plan.plan(seen, self._target)

    def actions(self) -> Mapping[str, Callable[..., None]]:
        return {
            "add": self._add,
            "start": self._start,
            "promote": self._promote,
            "remove_member": self._remove_member,
            "move_leader": self._move_leader,
            "put_aside": self._put_aside,
            "stop": self._stop,
            "healthy": self._healthy,
        }

    # --- steps

    def _add(self, entry: dict[str, Any], name: str) -> None:
        peer = self._hosts.group[name]
        conduct.gateway().call("cluster/member/add", {"peerURLs": [f"https://{peer}"], "isLearner": True})

    def _start(self, entry: dict[str, Any], name: str) -> None:
        names = {peer: host for host, peer in self._hosts.group.items()}
        listed = {
            names.get(member.peer, member.name or member.address): member.peer
            for member in membership_plan.current(self.look(), self._target)
        }
        first = config.first_start(self._cluster.name, listed, "existing")
        start = units.act_command(config.UNIT, "restart", INPUTS, block=False)
        timer = units.act_command(config.TIMER, "start", INPUTS)
        self._on(name, f"{first}\n{start}\n{timer}", "start etcd")

    def _promote(self, entry: dict[str, Any], name: str) -> None:
        """It must have caught up with the leader; how long that takes hangs on what etcd holds."""
        deadline = time.monotonic() + PROMOTE_SECONDS
        while True:
            seen = self.look()
            peer = self._hosts.group[name]
            member = next(
                (each for each in membership_plan.current(seen, self._target) if each.peer == peer), None
            )
            if member and not member.learner:
                return
            try:
                if member and member.name:
                    conduct.gateway().call("cluster/member/promote", {"ID": str(member.id)})
                    return
                problem = f"{name} has not started: {seen[name].active or 'not installed'}"
            except Failure as failure:  # not in sync yet
                problem = str(failure)
            if time.monotonic() > deadline:
                raise Failure(f"{problem}; after {PROMOTE_SECONDS} s: journalctl -u etcd on {name}")
            sleep(0.5)

    def _remove_member(self, entry: dict[str, Any], number: int, name: str) -> None:
        conduct.gateway().call("cluster/member/remove", {"ID": str(number)})

    def _move_leader(self, entry: dict[str, Any], leaving: str) -> None:
        seen = self.look()
        heir = membership_plan.heir(seen, self._target)
        entry["leads"] = self._hosts.name(heir)
        # Nobody but the leader does it.
        conduct.gateway([leaving]).call("maintenance/transfer-leadership", {"targetID": str(heir.id)})

    def _put_aside(self, entry: dict[str, Any], name: str) -> None:
        self._on(name, config.put_aside(self._cluster.name), "put etcd's data aside")

    def _stop(self, entry: dict[str, Any], name: str) -> None:
        # Certificates go, too: it is no member any more.
        script = f"{config.put_aside(self._cluster.name)}\nrm -rf {_FILES}\nsystemctl daemon-reload"
        self._on(name, script, "stop etcd")

    def _healthy(self, entry: dict[str, Any]) -> None:
        deadline = time.monotonic() + SERVE_SECONDS
        while True:
            seen = self.look()
            away = [name for name in self._hosts.group if name in seen and not membership_plan.serves(seen[name])]
            if not away:
                return
            if time.monotonic() > deadline:
                raise Failure(
                    f"{', '.join(away)}: no working member after {SERVE_SECONDS} s; ./griddle etcd status"
                )
            sleep(0.5)

    def _on(self, name: str, script: str, what: str) -> None:
        (on,) = conduct.hosts([name])
        conduct.run(on, exclusive(f"set -e\n{script}"), what, 120)
