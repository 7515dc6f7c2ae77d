"""The verbs `fdb add`, `remove`, `replace` and `coordinators`: look, and take the steps that `members` names."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from cluster import model
from cluster.errors import Failure, UserError
from cluster.model import Host
from cluster.progress import say
from deploys.backup import config as backup
from deploys.conductor import conduct
from deploys.conductor.conduct import Plan, Verb
from deploys.foundationdb import cluster_file, config, membership_plan, status
from deploys.foundationdb.config import COORDINATORS
from deploys.foundationdb.database import Database
from deploys.foundationdb.deploy import limits
from deploys.foundationdb.facts import Installation, Installed
from deploys.foundationdb.membership_plan import Leaver, Member, MembersSeen, MembersTarget
from deploys.framework.operations import replace_files
from deploys.framework.remote import fact
from deploys.framework.shell import exclusive
from deploys.framework.tree import File

OPERATOR = "this machine"
JOIN_SECONDS = 60
COORDINATORS_SECONDS = 60
UNAVAILABLE_SECONDS = 60
TELL_SECONDS = 15
_MANAGEMENT = "\\xff\\xff/management"
EXCLUSIONS = "; ".join(
    f"getrangekeys {_MANAGEMENT}/{what}/ {_MANAGEMENT}/{what}0 1000"
    for what in ("excluded", "in_progress_exclusion")
)
_LEAVER = (
    f"systemctl is-active -q {config.UNIT} && echo runs; "
    f"systemctl is-enabled -q {config.UNIT} 2>/dev/null && echo runs; "
    f"[ -e {config.CLUSTER_FILE} ] || ls {config.DATA}/data/* >/dev/null 2>&1 && echo holds; true"
)


class Membership(Verb):
    """One of the four verbs, by what it is asked for."""

    def __init__(self, title: str, join: str = "", leave: str = "", choose: tuple[str, ...] = ()) -> None:
        self.title = title
        self._cluster = model.cluster()
        members_now = [host.name for host in self._cluster.group("fdb") if host.name != join]
        self._database = Database(name for name in members_now if conduct.hosts([name]))
        self._target = MembersTarget(
            members={host.name: _member(host) for host in self._cluster.group("fdb")},
            spares={host.name: _member(host) for host in self._cluster.group("spare")},
            limits=limits(self._cluster),
            coordinators_needed=COORDINATORS[self._cluster.data["fdb_redundancy"]],
            join=join,
            leave=leave,
            choose=choose,
        )
        self._begun = False

    def look(self) -> MembersSeen:
        if not self._database.names:
            raise UserError("no host of group fdb can be reached: start one of them first")
        document = self._database.look_when_recovered()
        if not status.is_available(document):
            return MembersSeen(document)
        lines = self._database.read(EXCLUSIONS, "exclusions")
        installed = conduct.on_all(self._seeds(), self._installed)
        seeds = {where: seen.seed.partition("@")[0] for where, seen in installed.items() if seen.seed}
        kept = cluster_file.read(self._kept)
        return MembersSeen(
            document=document,
            excluded=_endpoints("excluded", lines),
            in_progress=_endpoints("in_progress_exclusion", lines),
            leaver=_leaver(self._target.leave),
            key=self._present().key,
            seeds={OPERATOR: kept.key if kept else "", **seeds},
        )

    def plan(self, seen: MembersSeen) -> Plan:
        if not self._begun:
            self._begun = True
            self._target = replace(self._target, sound=membership_plan.is_sound(seen, self._target))
        return membership_plan.plan(seen, self._target)

    def actions(self) -> Mapping[str, Callable[..., None]]:
        return {
            "joined": self._joined,
            "exclude": self._exclude,
            "include": self._include,
            "coordinators": self._coordinators,
            "emptied": self._emptied,
            "stop": self._stop,
            "seeds_follow": self._seeds_follow,
            "healthy": self._healthy,
        }

    # --- steps

    def _joined(self, entry: dict[str, Any], name: str) -> None:
        self._database.wait_for(
            lambda document: membership_plan.has_settled(MembersSeen(document), self._target.members[name]),
            JOIN_SECONDS,
            f"{name} becomes a part of the database",
        )

    def _exclude(self, entry: dict[str, Any], name: str) -> None:
        self._fdbcli(f"exclude no_wait {self._target.spares[name].address}", f"exclude {name}")

    def _include(self, entry: dict[str, Any], name: str) -> None:
        self._fdbcli(f"include {self._target.spares[name].address}", f"include {name}")

    def _coordinators(self, entry: dict[str, Any], *wanted: str) -> None:
        entry["before"] = list(membership_plan.coordinators(self._database.look()))
        self._fdbcli(f"coordinators {' '.join(wanted)}", "coordinators")
        self._database.wait_for(
            lambda seen: membership_plan.coordinators(seen) == dict.fromkeys(wanted, True),
            COORDINATORS_SECONDS,
            "the new coordinators answer",
        )

    def _emptied(self, entry: dict[str, Any], name: str) -> None:
        """However long it takes, as long as the database is available: it is the data that has to move."""
        member, told, available = self._target.spares[name], time.monotonic(), time.monotonic()
        while True:
            try:
                seen = self.look()
            except Failure:  # a recovery, of which this step brings some
                seen = MembersSeen(None)
            now = time.monotonic()
            if membership_plan.is_empty(seen, member):
                return
            if status.is_available(seen.document):
                available = now
            elif now - available > UNAVAILABLE_SECONDS:
                raise Failure(
                    f"the database is unavailable since {UNAVAILABLE_SECONDS} s; if it lacks processes that may "
                    f"take over, `include {member.address}` in fdbcli brings {name} back"
                )
            if now - told > TELL_SECONDS:
                told = now
                roles = sorted(
                    {role for process in membership_plan.processes_of(seen, member) for role in process.roles}
                )
                moving = status.get(seen.document, "cluster.data.moving_data.in_flight_bytes")
                say(f"    {name} still has {', '.join(roles) or 'data on its way'}; {moving} bytes are moving")
            time.sleep(1)

    def _stop(self, entry: dict[str, Any], name: str) -> None:
        # What it holds belongs to no database any more, and its cluster file names coordinators of before.
        script = (
            f"systemctl disable --now --quiet {config.UNIT}\n"
            f"find {config.DATA}/data -mindepth 1 -delete\nrm -f {config.CLUSTER_FILE} {config.SEED}"
        )
        (on,) = conduct.hosts([name])
        conduct.run(on, exclusive(f"set -e\n{script}"), "stop FoundationDB", 120)

    def _seeds_follow(self, entry: dict[str, Any]) -> None:
        present = self._present()
        cluster_file.write(self._kept, present, cluster_file.read(self._kept))

        def follow(on: Any) -> None:
            path = self._seeds()[model.short_name(on.name)][1]
            if self._installed(on).seed:
                replace_files(on, "foundationdb", {path: File(str(present))})

        conduct.on_all(self._seeds(), follow)

    def _healthy(self, entry: dict[str, Any], leaves: str = "") -> None:
        self._database.wait_for_health(
            lambda seen: membership_plan.health(seen, self._target, leaves),
            self._cluster.group("fdb")[0].data["fdb_health_seconds"],
            "every health gate is green",
            entry,
        )

    # --- what they are made of

    @property
    def _kept(self) -> Any:
        return cluster_file.operator_path(self._cluster.name)

    def _present(self) -> cluster_file.ClusterFile:
        """The cluster file as the database has it now."""
        (on,) = conduct.hosts([self._database.first])
        installed: Installed = fact(on, Installation)
        return cluster_file.parse(installed.cluster_file, f"{self._database.first}: cluster file")

    def _seeds(self) -> dict[str, tuple[str, str]]:
        """{host: its run-time cluster file and its seed}."""
        server = (config.CLUSTER_FILE, config.SEED)
        client = (config.CLIENT_CLUSTER_FILE, f"{config.CLIENT_DIRECTORY}/seed.cluster")
        found = {host.name: client for host in self._cluster.group("apps")}
        found |= {host.name: server for host in self._cluster.group("fdb")}
        return found | {backup.host(self._cluster).name: server}

    def _installed(self, on: Any) -> Installed:
        path, seed = self._seeds()[model.short_name(on.name)]
        return fact(on, Installation, cluster_file=path, seed=seed)

    def _fdbcli(self, command: str, what: str) -> list[str]:
        lines = self._database.do(command, what)
        if any(line.startswith("ERROR") for line in lines):
            raise Failure(f"{what}: {' / '.join(lines)}")
        return lines


def _member(host: Host) -> Member:
    # A spare host has no data of group fdb.
    data = {"fdb_process_classes": ["unset"], **host.data}
    every = config.processes(Host(host.name, host.address, host.groups, data))
    return Member(host.address, frozenset(process.endpoint for process in every), every[0].coordinator)


def _leaver(name: str) -> Leaver:
    found = conduct.hosts([name]) if name else []
    if not found:
        return Leaver()
    lines = conduct.run(found[0], _LEAVER, "look at FoundationDB")
    return Leaver(True, "runs" in lines, "holds" in lines)


def _endpoints(what: str, lines: list[str]) -> frozenset[str]:
    """Addresses in fdbcli's listing of a range of management keys."""
    pattern = re.compile(rf"management/{what}/([0-9.]+(?::\d+)?)")
    return frozenset(found for line in lines for found in pattern.findall(line))
