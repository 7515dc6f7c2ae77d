"""What is left to do until etcd has other members: pure, from what its hosts say, so that an operation that was
interrupted anywhere goes on from there.

A member joins as a learner, so that a host that never comes up costs no majority, and becomes a voter once it has
caught up. One that works leaves after that; one that is lost leaves first, because etcd takes nobody in while a
member is away (etcd 3.4, etcdserver/server.go, StrictReconfigCheck).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deploys.conductor.conduct import Plan, Step
from deploys.etcd.judge import Hosts, Seen, are, clusters, has_leader, members
from deploys.etcd.look import Found, Member


@dataclass(frozen=True)
class MembersTarget:
    """What the operator asked for; a host in both has lost its data."""

    hosts: Hosts
    join: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()


def plan(seen: Seen, target: MembersTarget) -> Plan:
    """The steps that are left, or the reasons why none may be taken."""
    refusals = tuple(_asked(target)) or tuple(_refusals(seen, target))
    return Plan(refusals=refusals) if refusals else Plan(steps=tuple(_steps(seen, target)))


def _asked(target: MembersTarget) -> Iterator[str]:
    """The inventory says it first."""
    hosts = target.hosts
    for name in target.join:
        if name not in hosts.group:
            yield f"{name} is to join: put it into group etcd of the inventory, then run again"
    for name in target.leave:
        if name in hosts.group and name not in target.join:
            yield f"{name} is to leave: take it out of group etcd of the inventory, then run again"


def _refusals(seen: Seen, target: MembersTarget) -> Iterator[str]:
    hosts = target.hosts
    ours = _ours(seen, target)
    if ours is None:
        yield "no member of group etcd answers: start one; with a majority lost for good, ./griddle etcd restore"
        return
    others = {cluster: on for cluster, on in clusters(seen).items() if cluster != ours}
    for cluster, on in others.items():
        foreign = [
            host for host in on if host not in target.leave or (seen[host].status and seen[host].status.leader)
        ]
        if foreign:
            yield f"another etcd cluster, {cluster:x}, is on {', '.join(foreign)}: ./griddle etcd status"
            return
    if not has_leader({host: found for host, found in seen.items() if found.cluster == ours}):
        yield (
            "etcd has no leader: bring members back until a majority runs; where it is lost for good, "
            "./griddle etcd restore"
        )
        return
    listed = current(seen, target)
    leaving = [member for member in listed if _leaves(member, target)]
    for name in target.join:
        if name not in seen:
            yield f"{name} is to join, and does not answer by SSH: start it first"
    at = {peer: host for host, peer in hosts.group.items()}
    staying = [member for member in listed if member not in leaving]
    if more := [hosts.name(m) for m in staying if m.peer not in at]:
        yield f"{are(more)} a member, not in group etcd, and not to leave by this: put it back into the group"
    peers = {member.peer for member in listed}
    if more := [host for host, peer in hosts.group.items() if peer not in peers and host not in target.join]:
        yield f"{are(more)} in group etcd, no member, and not to join by this: take it out of the group for now"
    away = [hosts.name(m) for m in staying if hosts.name(m) not in target.join and not _works(seen, m, hosts)]
    if away:
        yield f"{are(away)} to stay a member, and does not work: bring it back first, ./griddle etcd status"


def current(seen: Seen, target: MembersTarget) -> tuple[Member, ...]:
    """The member list of the cluster that is changed. One that is still catching up knows an old one."""
    ours = _ours(seen, target)
    others = {host: found for host, found in seen.items() if host not in target.join}
    return members(others, ours) or members(seen, ours)


def heir(seen: Seen, target: MembersTarget) -> Member:
    """A voter that stays, to lead."""
    return next(
        member
        for member in current(seen, target)
        if not member.learner and not _leaves(member, target) and _works(seen, member, target.hosts)
    )


def _ours(seen: Seen, target: MembersTarget) -> int | None:
    """The cluster that hosts of the group which stay belong to; it, and no other, is changed."""
    staying = [host for host in target.hosts.group if host not in target.join and host in seen]
    for host in [*staying, *target.leave, *target.join]:
        if host in seen and seen[host].answers:
            return seen[host].cluster
    return None


def _leaves(member: Member, target: MembersTarget) -> bool:
    return target.hosts.name(member) in target.leave or member.name in target.leave


def _works(seen: Seen, member: Member, hosts: Hosts) -> bool:
    """It answers, has its data and a leader. One whose host was not reached may: etcd itself will say."""
    host = hosts.name(member)
    if host not in seen:
        return True
    found = seen[host]
    return bool(found.data and found.status and found.status.leader and found.status.id == member.id)


def _steps(seen: Seen, target: MembersTarget) -> Iterator[Step]:
    hosts = target.hosts
    listed = current(seen, target)
    old = [member for member in listed if _leaves(member, target) and not _is_the_new_one(seen, member, target)]
    # Once somebody has been taken in, there is no hurry any more.
    added = any(hosts.name(member) in target.join for member in listed if member not in old)
    lost = [m for m in old if not added and (hosts.name(m) not in seen or not _works(seen, m, hosts))]
    for member in lost:
        yield Step(f"{hosts.name(member)} is no member any more", "remove_member", (member.id, hosts.name(member)))
    for name in target.join:
        yield from _join(seen, target, name, [member for member in listed if member not in lost])
    for member in old:
        if member in lost:
            continue
        name = hosts.name(member)
        status = seen[name].status if name in seen else None
        if status and status.leader == member.id and (len(listed) > 1 or target.join):
            yield Step(f"another member than {name} leads", "move_leader", (name,))
        yield Step(f"{name} is no member any more", "remove_member", (member.id, name))
    for name in target.leave:
        if name not in target.join and name in seen and (seen[name].data or seen[name].runs):
            yield Step(f"stop etcd on {name} and put its data aside", "stop", (name,))
    peers = {member.peer for member in listed}
    if any(name in seen and peer in peers and not serves(seen[name]) for name, peer in hosts.group.items()):
        yield Step("gate: every member serves", "healthy", waits=True)


def serves(found: Found) -> bool:
    """Its member works, with a majority."""
    return bool(found.status and found.status.leader)


def _is_the_new_one(seen: Seen, member: Member, target: MembersTarget) -> bool:
    """Of a host that leaves and joins: the member that this operation has made, or one that is well."""
    name = target.hosts.name(member)
    if name not in target.join or member.peer != target.hosts.group[name]:
        return False
    return member.learner or not member.published or _works(seen, member, target.hosts)


def _join(seen: Seen, target: MembersTarget, name: str, listed: Sequence[Member]) -> Iterator[Step]:
    peer, found = target.hosts.group[name], seen[name]
    member = next((each for each in listed if each.peer == peer), None)
    if member and not member.name and found.data and not found.runs:
        # Its data is not this member's, or is so and does not start; and a member must not begin without its own.
        yield Step(f"{name} is no member any more", "remove_member", (member.id, name))
        member = None
    if member is None:
        if found.data or found.runs:
            yield Step(f"what {name} had of etcd is put aside", "put_aside", (name,))
        yield Step(f"{name} is added as a learner", "add", (name,))
    if member is None or not found.answers:
        yield Step(f"etcd starts on {name}", "start", (name,))
    if member is None or member.learner:
        yield Step(f"{name} has caught up and votes", "promote", (name,))
