"""What is left to do until a lost majority is restored: pure.

Members that are left are stopped; of what they hold and of the snapshots, what has come farthest becomes the data
of every host of the group, as a cluster of another id, so that a member of the old one that comes back is nobody
to it. What was chosen, with its checksum, is written down on every host first: whoever goes on after an
interruption takes the same. A note that was left when the end of an earlier restore was interrupted is not gone on
with: the cluster has taken writes since.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from deploys.conductor.conduct import Plan, Step
from deploys.etcd.judge import Hosts, Seen, are, has_leader, members


@dataclass(frozen=True)
class Copy:
    """A snapshot, or a member's own database: where, and how far it has come."""

    host: str
    path: str
    revision: int
    checksum: str  # sha256 of the file


@dataclass(frozen=True)
class Stage:
    """How far a host has come.

    :param copies: snapshots and the stopped member's database
    :param begun: checksum of what is restored here, as it was written down; "" where nothing is
    :param group: the hosts that it is restored on, as written down with it
    :param has: checksum of the file that was brought here
    :param done: checksum of what this host's data was made of
    """

    copies: tuple[Copy, ...] = ()
    begun: str = ""
    group: tuple[str, ...] = ()
    has: str = ""
    done: str = ""


@dataclass(frozen=True)
class Looked:
    """Everything that the plan is made of.

    :param alive: members that SSH does not reach, and that answer their peers
    """

    found: Seen
    stages: Mapping[str, Stage] = field(default_factory=dict)
    alive: tuple[str, ...] = ()


def plan(seen: Looked, hosts: Hosts, wanted: str = "") -> Plan:
    """The steps that are left, or why none may be taken.

    :param wanted: HOST:PATH of the copy to restore; by default what has come farthest
    """
    refusals = tuple(_refusals(seen, hosts, wanted))
    return Plan(refusals=refusals) if refusals else Plan(steps=tuple(_steps(seen, hosts, wanted)))


def begun(seen: Looked, group: Iterable[str]) -> str:
    """The checksum of what an earlier run has begun to restore; "" if nothing is under way."""
    return "" if left_over(seen, group) else _noted(seen)


def left_over(seen: Looked, group: Iterable[str]) -> bool:
    """What is written down is of a restore that is over.

    It is written down on all hosts before the first is restored, and removed only after all have served: where one
    is done and another knows nothing of it, that was the end, or the other's disk was lost since.
    """
    stages = [seen.stages.get(name, Stage()) for name in group]
    return any(stage.done for stage in stages) and not all(stage.begun for stage in stages)


def _noted(seen: Looked) -> str:
    return next((stage.begun for stage in seen.stages.values() if stage.begun), "")


def chosen(seen: Looked, wanted: str = "") -> Copy | None:
    """What is restored."""
    copies = [copy for stage in seen.stages.values() for copy in stage.copies]
    if wanted:
        return next((copy for copy in copies if f"{copy.host}:{copy.path}" == wanted), None)
    return max(copies, key=lambda copy: copy.revision, default=None)


def _refusals(seen: Looked, hosts: Hosts, wanted: str) -> Iterator[str]:
    if missing := [name for name in hosts.group if name not in seen.found]:
        yield (
            f"{are(missing)} not reached by SSH: start it, or put a host in its place in group etcd of the "
            "inventory; all of the group are restored together"
        )
        return
    if seen.alive:
        yield f"{are(seen.alive)} not reached by SSH, but by other members: it is not lost"
        return
    stage = next((stage for stage in seen.stages.values() if stage.begun), None)
    if stage and not left_over(seen, hosts.group):
        if set(stage.group) != set(hosts.group):
            yield f"a restore on {', '.join(stage.group)} was begun: make group etcd so again, and end that first"
        return
    if has_leader(seen.found):
        if stage:
            return  # what is left of it is removed
        yield "etcd has a leader, so a majority works; for a lost member there is ./griddle etcd replace OLD NEW"
        return
    listed = members(seen.found)
    having = [name for name, found in seen.found.items() if hosts.cluster in found.data]
    size = len(listed) or len(hosts.group)
    if len(having) > size // 2 and not wanted:
        yield (
            f"{', '.join(having)} have their data, a majority of {size}: `sudo systemctl start etcd` there. To go "
            "back to a snapshot all the same, stop etcd on all of them and name it: --from HOST:PATH"
        )
    elif not having and not any(stage.copies for stage in seen.stages.values()):
        yield "no host has data of etcd or a snapshot in /var/lib/etcd-snapshots: there is nothing to restore from"


def _steps(seen: Looked, hosts: Hosts, wanted: str) -> Iterator[Step]:
    end = Step("every member serves; what was there for the restore alone is removed", "end")
    if has_leader(seen.found):
        yield end  # a majority works with what was restored, and may have taken writes since
        return
    what = begun(seen, hosts.group)
    stages = {name: seen.stages[name] for name in hosts.group}
    todo = [name for name, stage in stages.items() if not what or stage.done != what]
    restored = set(stages) - set(todo)
    if running := [name for name, found in seen.found.items() if found.runs and name not in restored]:
        yield Step(f"etcd stops on {', '.join(running)}", "stop", tuple(running))
    if not what or any(stage.begun != what for stage in stages.values()):
        yield Step("what is restored is chosen, and written down on every host", "choose", (wanted,))
    if todo and not (what and all(stage.has == what for stage in stages.values())):
        yield Step("every host has a copy of it", "bring")
    for name in todo:
        yield Step(f"it is the data of {name}; what {name} had is put aside", "restore", (name,))
    yield Step("etcd starts on all hosts of the group", "start")
    yield end
