"""What is left to do until the database has other members or coordinators: pure, from what the cluster says of
itself, so that an operation that was interrupted anywhere goes on from there.

A host leaves in this order (apple/foundationdb, documentation/sphinx/source/administration.rst, "Removing machines
from a cluster"): its place is taken, it is excluded, coordinators move (excluding does not move them: #2022,
#4328), it holds nothing any more, it is stopped, and the exclusion is lifted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from deploys.conductor.conduct import Plan, Step
from deploys.foundationdb import status
from deploys.foundationdb.status import Document, Limits, get

SETTLED_SECONDS = 10
"""How long a process must have run before it counts as joined: some seconds in, it costs a recovery."""

LEAST_FREE = 0.10
"""The share of a disk that must stay free after an exclusion; fdbcli refuses by the same."""


@dataclass(frozen=True)
class Member:
    """A host that the inventory names: its address, the endpoints of its processes, its coordinator's spelling."""

    address: str
    endpoints: frozenset[str] = frozenset()
    coordinator: str = ""


@dataclass(frozen=True)
class Leaver:
    """The host that leaves, as it was found; all False where it cannot be reached.

    :param reached: SSH got through
    :param runs: fdbmonitor runs or would start at boot
    :param holds: there are data files, or a cluster file
    """

    reached: bool = False
    runs: bool = False
    holds: bool = False


@dataclass(frozen=True)
class MembersSeen:
    """Everything that a plan is made of.

    :param excluded: addresses that are excluded; in_progress: endpoints that still hold something
    :param seeds: {where: key of the cluster file} on the operator's machine and on hosts
    """

    document: Document | None
    excluded: frozenset[str] = frozenset()
    in_progress: frozenset[str] = frozenset()
    leaver: Leaver = Leaver()
    key: str = ""
    seeds: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MembersTarget:
    """What the operator asked for.

    :param members: hosts that the inventory has in group fdb, by name
    :param spares: hosts that it has in group spare
    :param coordinators_needed: 2R - 1, see COORDINATORS in config.py
    :param join: the host that must have become a part
    :param leave: the host that must be none any more
    :param choose: "auto", names of hosts, or () to change coordinators only where one leaves
    :param sound: see `is_sound`, when the operation began: it ends only when that is so again
    """

    members: Mapping[str, Member]
    spares: Mapping[str, Member]
    limits: Limits
    coordinators_needed: int
    join: str = ""
    leave: str = ""
    choose: tuple[str, ...] = ()
    sound: bool = False


def plan(seen: MembersSeen, target: MembersTarget) -> Plan:
    """The steps that are left, or the reasons why none may be taken."""
    refusals = tuple(_inventory_refusals(target)) or tuple(_refusals(seen, target))
    return Plan(refusals=refusals) if refusals else Plan(steps=tuple(_steps(seen, target)))


def coordinators(document: Document | None) -> dict[str, bool]:
    """{address as cluster files spell it: whether it answers}, in the cluster file's order."""
    found = get(document, "client.coordinators.coordinators")
    return {str(each.get("address")): each.get("reachable") is True for each in found or ()}


def chosen_coordinators(seen: MembersSeen, target: MembersTarget) -> tuple[str, ...]:
    """Coordinators as they should be: those that are fit stay, other hosts fill up, in the inventory's order."""
    present = coordinators(seen.document)
    fit = [m.coordinator for name, m in target.members.items() if _serves(seen, m) or name == target.join]
    if target.choose not in ((), ("auto",)):
        return tuple(target.members[name].coordinator for name in target.choose)
    stay = [address for address, reachable in present.items() if address in fit and reachable]
    fill = [address for address in fit if address not in stay]
    return tuple((stay + fill)[: target.coordinators_needed])


def processes_of(seen: MembersSeen, member: Member) -> list[status.Process]:
    """The processes that the cluster knows at a member's address."""
    return [p for p in status.processes(seen.document) if p.endpoint.rpartition(":")[0] == member.address]


def is_sound(seen: MembersSeen, target: MembersTarget) -> bool:
    """Every health gate is green, whether or not the host that is to join is there."""
    return _judged(seen, target).ok


def _judged(seen: MembersSeen, target: MembersTarget) -> status.Health:
    joining = target.members[target.join].endpoints if target.join in target.members else frozenset()
    limits = replace(target.limits, processes=target.limits.processes - joining)
    return health(seen.document, replace(target, limits=limits), target.leave)


def health(document: Document | None, target: MembersTarget, leaves: str = "") -> status.Health:
    """Of all but a host that leaves, while it runs: its version, or its disk's errors, are no reason to stay."""
    if leaves in target.spares:
        document = status.without(document, target.spares[leaves].address)
    return status.judge(document, target.limits)


def _serves(seen: MembersSeen, member: Member) -> bool:
    return member.endpoints <= {process.endpoint for process in processes_of(seen, member)}


def _inventory_refusals(target: MembersTarget) -> Iterator[str]:
    """The inventory says what shall be; the operation brings it about."""
    known = {**target.members, **target.spares}
    for name in filter(None, (target.join, target.leave, *target.choose)):
        if name not in known and name != "auto":
            yield f"{name} is no FoundationDB host of the inventory; it has {', '.join(known)}"
            return
    if target.join and target.join not in target.members:
        yield f"{target.join} is to join: put it into group fdb of the inventory, then run again"
    if target.leave and target.leave not in target.spares:
        yield f"{target.leave} is to leave: move it from group fdb to group spare of the inventory, then run again"
    for name in target.choose:
        if name in target.spares:
            yield f"{name} is in group spare: only members can be coordinators"


def _refusals(seen: MembersSeen, target: MembersTarget) -> Iterator[str]:
    if not status.is_available(seen.document):
        yield "the database is not available: ./griddle fdb status"
        return
    wanted = chosen_coordinators(seen, target)
    if len(set(wanted)) != len(wanted) or len(wanted) != target.coordinators_needed:
        yield (
            f"{target.coordinators_needed} coordinators on hosts that serve are needed, and "
            f"{len(set(wanted))} can be had: add a host first"
        )
    for name in target.choose:
        if name != "auto" and not _serves(seen, target.members[name]):
            yield f"{name} does not serve, and cannot be a coordinator"
    if target.leave and not _leaving_has_begun(seen, target):
        yield from _unsafe_to_begin(seen, target)


def _leaving_has_begun(seen: MembersSeen, target: MembersTarget) -> bool:
    leaver, found = target.spares[target.leave], seen.leaver
    # The cluster's list still has one that was stopped for some seconds.
    stopped = found.reached and not found.runs and not found.holds
    return stopped or leaver.address in seen.excluded or not processes_of(seen, leaver)


def _has_joined(seen: MembersSeen, target: MembersTarget) -> bool:
    return bool(target.join) and _serves(seen, target.members[target.join])


def has_settled(seen: MembersSeen, joined: Member) -> bool:
    """It has joined, and what that costs is behind it, or shows."""
    ran = [process.uptime_seconds for process in processes_of(seen, joined)]
    return _serves(seen, joined) and min(ran) >= SETTLED_SECONDS


def _unsafe_to_begin(seen: MembersSeen, target: MembersTarget) -> Iterator[str]:
    """Before a host that serves is emptied, everything else must be well."""
    # Once a host has joined, health is waited for: that costs a recovery, and data distribution says nothing for
    # half a minute after one.
    if not _has_joined(seen, target):
        for gate in _judged(seen, target).failing:
            yield f"the cluster is not healthy: {gate}"
    moved = sum(used for used, _, _ in _disks(seen, {target.leave: target.spares[target.leave]}))
    staying = {name: member for name, member in target.members.items() if name != target.join}
    disks = _disks(seen, staying)
    for _, free, total in disks:
        if free - moved / len(disks) < LEAST_FREE * total:
            yield f"the others have no room: {free / 2**30:.1f} GiB free, {moved / 2**30:.1f} GiB to take over"
            return


def _disks(seen: MembersSeen, members: Mapping[str, Member]) -> list[tuple[float, float, float]]:
    """(bytes stored, free, total) of each storage process of these hosts."""
    addresses = {member.address for member in members.values()}
    found = []
    for process in (get(seen.document, "cluster.processes") or {}).values():
        if str(process.get("address", "")).split(":")[0] not in addresses:
            continue
        stored = sum(
            float(get(role, "kvstore_used_bytes") or 0)
            for role in process.get("roles", ())
            if role.get("role") == "storage"
        )
        total = float(get(process, "disk.total_bytes") or 0)
        if total:
            found.append((stored, float(get(process, "disk.free_bytes") or 0), total))
    return found


def _steps(seen: MembersSeen, target: MembersTarget) -> Iterator[Step]:
    healthy = health(seen.document, target, target.leave if seen.leaver.runs else "").ok
    if target.join and not has_settled(seen, target.members[target.join]):
        yield Step(f"{target.join} becomes a part of the database", "joined", (target.join,), waits=True)
        healthy = False
    if target.join and target.leave and not healthy and not _leaving_has_begun(seen, target):
        yield Step(f"gate: healthy, before {target.leave} is emptied", "healthy", (target.leave,), waits=True)
    moves = list(_move_coordinators(seen, target))
    yield from _leave(seen, target) if target.leave else moves
    changed = bool(moves)
    stale = sorted(where for where, key in seen.seeds.items() if key != seen.key)
    if changed or stale:
        who = f" of {', '.join(stale)}" if stale else ""
        yield Step(f"the seed cluster files{who} follow", "seeds_follow")
    # A host may be added, and coordinators moved, because something is lost: then that is still so.
    if (target.leave and not healthy) or (target.sound and (moves or not healthy)):
        yield Step("gate: healthy", "healthy", waits=True)


def _leave(seen: MembersSeen, target: MembersTarget) -> Iterator[Step]:
    name, member, found = target.leave, target.spares[target.leave], seen.leaver
    excluded = member.address in seen.excluded
    coordinates = member.coordinator in coordinators(seen.document)
    # One that was stopped is still in the cluster's list for some seconds, so the host itself is asked.
    present = found.runs or not found.reached
    if not excluded and (present or coordinates):
        yield Step(f"exclude {name}: its data and roles move to the others", "exclude", (name,))
        excluded = True
    yield from _move_coordinators(seen, target)
    if present and not is_empty(seen, member):
        yield Step(f"wait until {name} holds nothing", "emptied", (name,))
    if found.holds and not found.runs and not health(seen.document, target).ok:
        # Somebody else has stopped it: whether its files are the last copy of anything, only health can say.
        yield Step(f"gate: healthy, before the files of {name} are removed", "healthy", waits=True)
    if found.runs or found.holds:
        yield Step(f"stop FoundationDB on {name} and remove its files there", "stop", (name,))
    if excluded and found.reached:
        yield Step(f"lift the exclusion of {name}", "include", (name,))


def _move_coordinators(seen: MembersSeen, target: MembersTarget) -> Iterator[Step]:
    wanted = chosen_coordinators(seen, target)
    present = coordinators(seen.document)
    gone = target.leave and target.spares[target.leave].coordinator in present
    if (gone or target.choose) and set(wanted) != set(present):
        yield Step(f"coordinators are {', '.join(wanted)}", "coordinators", wanted)


def is_empty(seen: MembersSeen, member: Member) -> bool:
    """Neither data nor roles, a coordinator's among them, are on a host that was excluded."""
    return (
        member.address in seen.excluded
        and not any(process.roles for process in processes_of(seen, member))
        and not any(endpoint.partition(":")[0] == member.address for endpoint in seen.in_progress)
        and member.coordinator not in coordinators(seen.document)
    )
