"""etcd's members as they are against the inventory's group: what an apply may do. Pure, from what every host says
(deploys/etcd/look.py).

An apply never changes members: it would begin a second cluster beside the first (`initial-cluster-state: new` on a
host without data), or leave one behind. It goes on where the member list is the group; it begins a cluster where
nobody has ever heard of one; everything else is refused with the command that does it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from deploys.etcd.look import Found, Member


@dataclass(frozen=True)
class Hosts:
    """The inventory: {host: its peers' address as member lists spell it}, of group etcd and of all other hosts."""

    cluster: str
    group: Mapping[str, str]
    others: Mapping[str, str]

    def name(self, member: Member) -> str:
        """A member's host, or what the member calls itself, or where it is."""
        for host, peer in {**self.others, **self.group}.items():
            if peer.partition(":")[0] == member.address:
                return host
        return member.name or member.address


Seen = Mapping[str, Found]
"""{host: what was found there}, of the hosts that were reached."""


@dataclass(frozen=True)
class Verdict:
    """What an apply may do. `begins`: hosts that begin a new cluster, all of the group together."""

    refusals: tuple[str, ...] = ()
    begins: frozenset[str] = frozenset()


def clusters(seen: Seen) -> dict[int, list[str]]:
    """{cluster id: hosts whose members say so}."""
    found = defaultdict(list)
    for host, each in seen.items():
        if each.answers:
            found[each.cluster].append(host)
    return dict(found)


def members(seen: Seen, of: int | None = None) -> tuple[Member, ...]:
    """The member list, by whoever has come farthest: one that was cut off knows an old one.

    :param of: of this cluster; by default of any
    """

    def far(found: Found) -> tuple[bool, int]:
        status = found.status
        return (bool(status and status.leader), status.applied if status else -1)

    answers = [found for found in seen.values() if found.answers and of in (None, found.cluster)]
    return max(answers, key=far).members if answers else ()


def has_leader(seen: Seen) -> bool:
    """A majority works, as far as it can be seen."""
    return any(each.status and each.status.leader for each in seen.values())


def judge(seen: Seen, hosts: Hosts) -> Verdict:
    """What an apply may do, by what its hosts say."""
    if restoring := [host for host, each in seen.items() if each.restoring]:
        return Verdict(
            (f"a restore of etcd was begun and has not come to its end on {', '.join(restoring)}: "
             "./griddle etcd restore goes on",)
        )  # fmt: skip
    live = clusters(seen)
    if len(live) > 1:
        said = "; ".join(f"{cluster:x} on {', '.join(on)}" for cluster, on in sorted(live.items()))
        return Verdict(
            (
                f"there are {len(live)} etcd clusters: {said}. Keep one: `sudo systemctl disable --now etcd` on "
                "hosts of the other, then ./griddle etcd status",
            )
        )
    if live:
        listed = members(seen)
        refusals = tuple(_differences(listed, hosts)) or tuple(_lost_disks(seen, listed, hosts))
        return Verdict(refusals, frozenset(_beginners(seen, listed, hosts)))
    return _begin(seen, hosts)


def _differences(listed: Sequence[Member], hosts: Hosts) -> Iterator[str]:
    """The member list is not the group."""
    at = {peer: host for host, peer in hosts.group.items()}
    gone = [hosts.name(member) for member in listed if member.peer not in at]
    new = [host for host, peer in hosts.group.items() if peer not in {member.peer for member in listed}]
    unfinished = [hosts.name(m) for m in listed if m.peer in at and (m.learner or not m.name)]
    if (gone or new) and not any(member.published for member in listed):
        yield (
            f"a first apply has begun an etcd of {_names(listed, hosts)} and not ended it: make group etcd so "
            "again, apply, and change members afterwards"
        )
    elif gone and gone == new:  # by name: one address cannot be two members
        known = {hosts.name(member): member.peer for member in listed}
        yield (
            f"the members know {gone[0]} as {known[gone[0]]}, and the inventory has it at {hosts.group[gone[0]]}: "
            f"put its address, or etcd_peer_port, back"
        )
    elif gone and new:
        one = f"{gone[0]} {new[0]}"
        alone = f" Members are replaced one at a time: put {new[0]} in the place of {gone[0]} alone, then"
        yield (
            f"etcd's members are {_names(listed, hosts)}, and group etcd has {', '.join(hosts.group)}."
            f"{alone if max(len(gone), len(new)) > 1 else ' To replace a member:'} ./griddle etcd replace {one}"
        )
    elif gone and unfinished:
        yield (
            f"{unfinished[0]} is about to become a member in the place of {gone[0]}: ./griddle etcd replace "
            f"{gone[0]} {unfinished[0]} goes on"
        )
    elif new:
        yield f"{are(new)} in group etcd and no member of it: ./griddle etcd add {' '.join(new)}"
    elif gone:
        yield f"{are(gone)} a member of etcd and not in group etcd: ./griddle etcd remove {' '.join(gone)}"
    elif unfinished:
        yield f"{are(unfinished)} about to become a member: ./griddle etcd add {' '.join(unfinished)} goes on"


def _lost_disks(seen: Seen, listed: Sequence[Member], hosts: Hosts) -> Iterator[str]:
    at = {hosts.name(member): member for member in listed if member.published}
    lost = [host for host in at if host in seen and hosts.cluster not in seen[host].data]
    serve = [seen[host].data for host in lost if seen[host].answers]
    if serve and len(serve) == len([host for host in at if host in seen]) and all(serve):
        names = sorted({name for data in serve for name in data})
        yield (
            f"{', '.join(lost)} serve etcd's data of cluster {', '.join(names)}, and cluster_name is "
            f"{hosts.cluster}: put it back"
        )
    elif len(lost) > len(listed) // 2:
        yield f"{', '.join(lost)} have lost etcd's data, a majority of {len(listed)}: ./griddle etcd restore"
    elif lost:
        commands = " and ".join(f"./griddle etcd replace {host} {host}" for host in lost)
        yield f"{are(lost)} a member of etcd, its data lost: {commands}"


def _beginners(seen: Seen, listed: Sequence[Member], hosts: Hosts) -> Iterator[str]:
    """Hosts that an interrupted first apply has not started: the others wait for them, or go on without."""
    for member in listed:
        host = hosts.name(member)
        if member.name and not member.published and host in seen and hosts.cluster not in seen[host].data:
            yield host


def _begin(seen: Seen, hosts: Hosts) -> Verdict:
    """Nobody answers: are there members that do not run, or was there never one?"""

    def refused(line: str) -> Verdict:
        return Verdict((line,))

    having = [host for host in hosts.group if host in seen and hosts.cluster in seen[host].data]
    empty = [host for host in hosts.group if host in seen and host not in having]
    if not empty:
        return Verdict()
    if having:
        return refused(
            f"etcd's data is on {', '.join(having)}, where no member answers, and not on {', '.join(empty)}: "
            f"`sudo systemctl start etcd` on {having[0]}; with a majority lost for good, ./griddle etcd restore"
        )
    elsewhere = [
        f"{host} ({', '.join(found.data)})"
        for host, found in seen.items()
        if found.data and not (host in hosts.group and found.data == ("default",) and not found.runs)
    ]
    if elsewhere:
        return refused(
            f"no host of group etcd has the cluster's data, and there is data of etcd on {', '.join(elsewhere)}: "
            "put these hosts into the group again and start etcd there; members are then replaced one at a time, "
            "./griddle etcd replace OLD NEW"
        )
    addresses = {peer.partition(":")[0] for peer in hosts.group.values()}
    for host, found in seen.items():
        if strangers := [address for address in found.endpoints if address not in addresses]:
            return refused(
                f"the services of {host} were given etcd at {', '.join(strangers)}, not in group etcd, "
                "and the group has no data: put these hosts into it again; members are then replaced one at "
                "a time, ./griddle etcd replace OLD NEW"
            )
    if kept := [(found.snapshots[-1], host) for host, found in seen.items() if found.snapshots]:
        newest, host = max(kept)
        return refused(
            f"no host of group etcd has its data, and {host} has a snapshot, {newest}: ./griddle etcd restore; or "
            "move the snapshots away to begin with an empty etcd"
        )
    if missing := [host for host in hosts.group if host not in seen]:
        return refused(
            f"a new etcd begins on all its hosts at once, and {', '.join(missing)} took no part in this"
        )
    return Verdict(begins=frozenset(hosts.group))


def _names(listed: Sequence[Member], hosts: Hosts) -> str:
    return ", ".join(sorted(hosts.name(member) for member in listed))


def are(names: Sequence[str]) -> str:
    """`a is`, or `a, b are`."""
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"
