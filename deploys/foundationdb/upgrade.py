"""The verb `fdb upgrade`: looks at hosts and cluster, and takes the steps that `plan` names."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import gevent

from cluster import artifacts, model
from cluster.errors import Failure, UserError
from cluster.model import Host
from cluster.progress import say
from cluster.settings import slots
from deploys.app import config as app
from deploys.backup import config as backup
from deploys.backup import status as backup_status
from deploys.conductor import conduct
from deploys.conductor.conduct import Plan, Verb
from deploys.foundationdb import config, operations, status, upgrade_plan
from deploys.foundationdb.database import Database
from deploys.foundationdb.deploy import limits, packages_for, seed_file
from deploys.foundationdb.facts import Installation, Installed, fdbcli
from deploys.foundationdb.status import Document, Limits
from deploys.foundationdb.upgrade_plan import HostSeen, UpgradeSeen, UpgradeTarget
from deploys.framework import units as unit_states
from deploys.framework.authority import authority
from deploys.framework.operations import replace_files
from deploys.framework.shell import exclusive, upload_path
from deploys.framework.tree import Entry, File, Link

POLL_SECONDS = 0.25
BOUNCE_SECONDS = 120
STRAGGLER_SECONDS = 20
HAND_OVER_SECONDS = 15
UNPACKED_TIMES = 6  # an unpacked version and the work beside it, in sizes of its packages
ROOM_BYTES = 200 * 1024**2
EXTERNAL = "/opt/foundationdb/clients"
ON_SERVERS = f"""
echo "conf $(sha256sum 2>/dev/null <{config.CONF})"
for pid in $(pidof fdbserver); do echo "running $(readlink /proc/$pid/exe)"; done
ss -Htnp state established |
  sed -n 's/.* \\([0-9.]*:[0-9]*\\) *users:(("fdbserver".*/peer \\1/p' | sort -u
"""
ON_CLIENTS = f"""
ls {EXTERNAL}/*.so 2>/dev/null | sed 's|^|external |'
for pid in $(pgrep -f 'services\\.store'); do
  echo worker $(grep -hoE '/[^ ]*libfdb_c[^ ]*\\.so' /proc/$pid/maps 2>/dev/null | sort -u); done
for pid in $(pidof backup_agent); do echo "running $(readlink /proc/$pid/exe)"; done
"""


class Upgrade(Verb):
    """`fdb upgrade VERSION`."""

    def __init__(self, version: str, rolling: bool, procedure: str, cut_off: bool = False) -> None:
        self.title = f"fdb upgrade {version}"
        self._cluster = model.cluster()
        self._data = self._cluster.group("fdb")[0].data
        self._servers = {host.name: host for host in self._cluster.group("fdb")}
        clients = self._cluster.group("apps")
        if self._data["fdb_backup_url"]:
            clients = [*clients, backup.host(self._cluster)]
        self._clients = {host.name: host for host in clients if host.name not in self._servers}
        self._target = dataclasses.replace(self._make_target(version, rolling, procedure), cut_off=cut_off)
        self._database = Database(self._servers)

    def look(self) -> UpgradeSeen:
        document = gevent.spawn(self._database.look)
        hosts = self._look_at([*self._servers, *self._clients])
        seen = UpgradeSeen(
            document.get(),
            {name: hosts[name] for name in self._servers if name in hosts},
            {
                name: dataclasses.replace(hosts[name], follows="apps" not in host.groups)
                for name, host in self._clients.items()
                if name in hosts
            },
        )
        # What only another minor version needs to know, before its switch, and what takes as long as all the rest.
        minor = upgrade_plan.is_minor(seen, self._target) and not upgrade_plan.under_way(seen, self._target)
        return dataclasses.replace(seen, backup=self._backup_age()) if minor else seen

    def plan(self, seen: UpgradeSeen) -> Plan:
        return upgrade_plan.upgrade(seen, self._target)

    def health(self, seen: UpgradeSeen) -> tuple[status.Gate, ...]:
        return status.judge(seen.document, dataclasses.replace(self._target.limits, recovered_seconds=0)).gates

    def actions(self) -> Mapping[str, Callable[..., None]]:
        return {
            "stage": self._stage,
            "switch": self._switch,
            "link": self._link,
            "bounce": self._bounce,
            "zone": self._zone,
            "hand_over": self._hand_over,
            "give_back": self._give_back,
            "bears": self._bears,
            "healthy": self._healthy,
            "take_library": self._take_library,
            "clients_first": self._clients_first,
            "clients_speak": self._clients_speak,
            "backup": self._backup,
            "bounce_old": self._bounce_old,
            "stragglers": self._stragglers,
            "restart": self._restart,
        }

    def _make_target(self, version: str, rolling: bool, procedure: str) -> UpgradeTarget:
        followers = [host for host in self._clients.values() if "apps" not in host.groups]
        target = UpgradeTarget(
            version,
            {name: frozenset(p.endpoint for p in config.processes(host)) for name, host in self._servers.items()},
            dataclasses.replace(limits(self._cluster), recovered_seconds=self._data["fdb_recovered_seconds"]),
            classes={
                p.endpoint: p.process_class for host in self._servers.values() for p in config.processes(host)
            },
            hosts={host.address: host.name for host in self._cluster.hosts.values()},
            rolling=rolling,
            procedure=procedure,
            own=frozenset(host.address for host in [*self._servers.values(), *followers]),
            ours=frozenset(host.address for host in self._clients.values()),
            backed_up=bool(self._data["fdb_backup_url"]),
        )
        try:
            found = artifacts.resolve(version)
        except UserError as error:
            return dataclasses.replace(target, problem=str(error))
        size = sum(path.stat().st_size for path in (found.clients, found.server))
        return dataclasses.replace(target, needed_bytes=UNPACKED_TIMES * size + ROOM_BYTES)

    # --- looking

    def _look_at(self, names: Iterable[str]) -> dict[str, HostSeen]:
        found = conduct.on_all(names, lambda on: look_at_host(on, model.short_name(on.name) in self._servers))
        return {name: self._compared(name, host) for name, host in found.items()}

    def _compared(self, name: str, seen: HostSeen) -> HostSeen:
        """Whether its foundationdb.conf is as the data make it."""
        if name not in self._servers or not seen.conf:
            return seen
        conf = config.foundationdb_conf(self._of_version(name, seen.configured or self._target.version))
        return dataclasses.replace(seen, edited=hashlib.sha256(conf.encode()).hexdigest() != seen.conf)

    def _backup_age(self) -> float | None:
        """None: there is no backup, or nobody to ask."""
        if not self._data["fdb_backup_url"]:
            return None
        on = conduct.hosts([backup.host(self._cluster).name])
        if not on:
            return None
        seen = backup_status.parse("\n".join(conduct.run(on[0], f"{backup.status_command()} || true", "backup")))
        return seen.lag_seconds if seen.running and seen.restorable else None

    # --- steps of both procedures

    def _stage(self, entry: dict[str, Any], *names: str) -> None:
        version = self._target.version

        def stage(on: Any) -> None:
            # The backup's host proves backups with a server of its own.
            name = model.short_name(on.name)
            packages = packages_for(version, name in self._servers or "apps" not in self._clients[name].groups)
            uploads = {upload_path(package.path): package for package in packages}
            for remote, package in uploads.items():
                if not on.put_file(str(package.path), remote):
                    raise Failure(f"{on.name}: {package.path.name} could not be uploaded")
            sums = {remote: package.sha256 for remote, package in uploads.items()}
            script = operations.unpack_command(version, sums, [package.name for package in packages])
            conduct.run(on, exclusive(script), f"{version} cannot be staged", seconds=600)
            replace_files(on, "foundationdb-tools", config.tool_files())

        conduct.on_all(names, stage)

    def _switch(self, entry: dict[str, Any], *names: str) -> None:
        self._switch_command(entry, *names, more={config.CURRENT: Link(self._target.version)})

    def _switch_command(
        self, entry: dict[str, Any], *names: str, more: Mapping[str, Entry] = MappingProxyType({})
    ) -> None:
        def switch(on: Any) -> None:
            conf = config.foundationdb_conf(self._of_version(model.short_name(on.name), self._target.version))
            replace_files(on, "foundationdb", {config.CONF: File(conf), **more})

        conduct.on_all(names, switch)

    def _link(self, entry: dict[str, Any], *names: str) -> None:
        link = {config.CURRENT: Link(self._target.version)}
        conduct.on_all(names, lambda on: replace_files(on, "foundationdb", link))

    def _bounce(self, entry: dict[str, Any], *names: str) -> None:
        """All processes; or, where an interrupted bounce has left some, those of these hosts alone."""
        wanted = frozenset().union(*(self._target.endpoints[name] for name in names))
        what = "all"
        if wanted != self._target.everything:
            there = {p.endpoint for p in status.processes(self._database.look())}
            what = " ".join(sorted(wanted & there)) or what
        entry |= parse_bounce(self._database.run(bounce_command(what), "kill the processes", BOUNCE_SECONDS))
        late: frozenset[str] = wanted

        def back(seen: Document | None) -> bool:
            nonlocal late
            late = self._late(seen, wanted)
            return status.is_available(seen) and not late

        try:
            self._database.wait_for(back, BOUNCE_SECONDS, "all processes run the new version")
        except Failure as failure:
            lacking = [name for name in names if self._target.endpoints[name] & late]
            raise Failure(f"{failure}; not yet: {', '.join(lacking) or 'the database is not available'}") from None

    def _all_back(self, seen: Document | None) -> bool:
        return status.is_available(seen) and not self._late(seen, self._target.everything)

    def _late(self, seen: Document | None, wanted: frozenset[str]) -> frozenset[str]:
        """Endpoints without a process of the new version."""
        return wanted - {p.endpoint for p in status.processes(seen) if p.version == self._target.version}

    def _zone(self, entry: dict[str, Any], name: str) -> None:
        """One host's processes, by kill: their monitor has them back in 0.2 s, and who still asks the old ones is
        told at once. A host without any would be missed only after some seconds (failure detection's delay).
        """
        wanted = self._target.endpoints[name]
        (on,) = conduct.hosts([name])
        entry |= parse_bounce(conduct.run(on, zone_command(wanted), f"kill {name}", BOUNCE_SECONDS))
        what = f"the processes of {name} run the new version"
        self._database.wait_for(lambda seen: not self._late(seen, wanted), BOUNCE_SECONDS, what)

    def _hand_over(self, entry: dict[str, Any], *classes: tuple[str, str]) -> None:
        self._set_classes(classes)
        yielding = {endpoint for endpoint, _ in classes}

        def moved(seen: Document | None) -> bool:
            controlling = {p.endpoint for p in status.processes(seen) if upgrade_plan.CONTROLLER in p.roles}
            return bool(controlling - yielding)

        try:
            self._database.wait_for(moved, HAND_OVER_SECONDS, "the cluster controller is elsewhere")
        except Failure as failure:
            entry["problem"] = str(failure)
            say(f"    {failure}; going on: clients wait the longer while it restarts")

    def _give_back(self, entry: dict[str, Any], *endpoints: str) -> None:
        self._set_classes([(endpoint, "default") for endpoint in endpoints])

    def _set_classes(self, classes: Iterable[tuple[str, str]]) -> None:
        self._database.do("; ".join(f"setclass {endpoint} {name}" for endpoint, name in classes), "setclass")

    def _bears(self, entry: dict[str, Any]) -> None:
        self._gate(entry, status.bears, self._target.limits)

    def _healthy(self, entry: dict[str, Any]) -> None:
        wanted = dataclasses.replace(self._target.limits, version=self._target.version, recovered_seconds=0)
        self._gate(entry, status.judge, wanted)

    def _gate(
        self, entry: dict[str, Any], judge: Callable[[Document | None, Limits], status.Health], wanted: Limits
    ) -> None:
        seconds = self._data["fdb_health_seconds"]
        self._database.wait_for_health(lambda seen: judge(seen, wanted), seconds, "the gate's conditions", entry)

    def _take_library(self, entry: dict[str, Any], *names: str) -> None:
        """Worker by worker of a host: a worker that leaves says so, and proxies ask another one. On as many hosts
        at once as the cluster can do without a worker of each.
        """

        def take(on: Any) -> None:
            name = model.short_name(on.name)
            self._link(entry, name)
            if "apps" in self._clients[name].groups:
                conduct.run(on, f"rm -f {EXTERNAL}/*.so", "further client libraries")
                self._restart_workers(on, self._clients[name])
            else:
                self._move_backup_agents(on)

        conduct.on_all(names, take, self._hosts_at_once())

    def _hosts_at_once(self) -> int:
        workers = {name: len(_workers(host)) for name, host in self._clients.items() if "apps" in host.groups}
        return upgrade_plan.hosts_at_once(workers, self._data["fdb_workers_away"])

    def _restart_workers(self, on: Any, host: Host) -> None:
        for unit, slot, release in _workers(host):
            ready = app.ready(host, unit, release)
            inputs = app.inputs(slot, host.data["store_engine"])
            act = unit_states.act_command(unit, "restart", inputs, ready=ready)
            conduct.run(on, exclusive(act), f"restart {unit}", seconds=120)

    def _move_backup_agents(self, on: Any) -> None:
        host = self._of_version(model.short_name(on.name), self._target.version)
        files = backup.files(host, seed_file(), authority())
        replace_files(on, "backup", files)
        for unit in backup.agents(host.data):
            act = unit_states.act_command(unit, "restart", backup.INPUTS)
            conduct.run(on, exclusive(act), f"restart {unit}", seconds=120)

    # --- steps of the minor procedure alone

    def _clients_first(self, entry: dict[str, Any], *names: str) -> None:
        version = self._target.version
        library, name = f"{config.release(version)}/lib/libfdb_c.so", f"{EXTERNAL}/libfdb_c_{version}.so"

        def load(on: Any) -> None:
            conduct.run(on, f"mkdir -p {EXTERNAL} && ln -sfn {library} {name}", "further client library")
            self._restart_workers(on, self._clients[model.short_name(on.name)])

        conduct.on_all(names, load, self._hosts_at_once())

    def _clients_speak(self, entry: dict[str, Any]) -> None:
        end = time.monotonic() + self._data["fdb_health_seconds"]
        while late := upgrade_plan.lagging(self.look(), self._target):
            if time.monotonic() > end:
                raise Failure(f"clients that would be cut off, though they were restarted: {', '.join(late)}")
            time.sleep(POLL_SECONDS)

    def _backup(self, entry: dict[str, Any]) -> None:
        end = time.monotonic() + self._data["fdb_health_seconds"]
        while (age := self._backup_age()) is None or age > self._target.backup_seconds:
            if time.monotonic() > end:
                old = "there is no restorable point" if age is None else f"the newest is {age:.0f} s old"
                raise Failure(f"{old}; see ./griddle fdb backup status")
            time.sleep(2)
        entry["restorable_seconds_ago"] = round(age)

    def _bounce_old(self, entry: dict[str, Any], version: str) -> None:
        """What has missed it, or does not come back, is the next step's."""
        # The first kill only fills fdbcli's list of processes. Kill is not reliable, and reports no error.
        self._database.do("kill; kill all; sleep 1", "kill all processes", version=version)
        end = time.monotonic() + STRAGGLER_SECONDS
        while upgrade_plan.late(self._look_at(self._servers), self._target) and time.monotonic() < end:
            time.sleep(POLL_SECONDS)

    def _stragglers(self, entry: dict[str, Any], *late: str) -> None:
        self._restart(entry, late)
        try:
            self._await_all(STRAGGLER_SECONDS)
        except Failure:
            seen = self._database.look(version=self._target.version)
            still = [name for name, every in self._target.endpoints.items() if self._late(seen, every)]
            self._restart(entry, still)
            self._await_all(BOUNCE_SECONDS)

    def _restart(self, entry: dict[str, Any], names: Iterable[str]) -> None:
        """All at once: what they wait for is each other."""

        def restart(on: Any) -> None:
            name = model.short_name(on.name)
            listening = unit_states.ready_command(config.listening_command(self._servers[name]), 60, name)
            script = f"systemctl restart {config.UNIT}\n{listening}"
            conduct.run(on, exclusive(script), f"restart {config.UNIT}", seconds=150)

        if chosen := list(names):
            entry["restarted"] = chosen
            conduct.on_all(chosen, restart)

    def _await_all(self, seconds: float) -> None:
        what = f"all processes run {self._target.version}"
        self._database.wait_for(self._all_back, seconds, what, version=self._target.version)

    def _of_version(self, name: str, version: str) -> Host:
        """A host whose data name a version."""
        host = {**self._servers, **self._clients}[name]
        return dataclasses.replace(host, data={**host.data, "fdb_version": version})


def _workers(host: Host) -> list[tuple[str, str, str]]:
    """A host's store workers: unit, slot and release."""
    return [
        (unit, slot, release)
        for slot, release in slots(host).items()
        for unit in app.units(host, slot)
        if unit.startswith("griddle-store@")
    ]


def bounce_command(what: str = "all", seconds: int = 30) -> str:
    """A shell command: processes are killed; it prints within how many milliseconds of its own beginning a
    transaction could begin again.

    :param what: addresses, all of which fdbcli must know, or it kills none
    """
    # The first kill only fills fdbcli's list of processes. Kill is not reliable, and reports no error. What is
    # asked in the same session goes out on the same connections, after it.
    ask = fdbcli(f"kill; kill {what}; sleep 0.2; getversion", seconds=seconds)
    return f"""{_CLOCK}
seen=$({ask} 2>&1); ended=$(now)
echo "$seen" | grep -q 'Attempted to kill\\|timeout reached' || {{ echo "$seen" >&2; exit 1; }}
echo "$seen" | tail -n 1 | grep -qx '[0-9]*' && echo "serving $((ended - began))"; true"""


def zone_command(endpoints: Iterable[str], seconds: int = 30) -> str:
    """A shell command, for the host of these processes: they are killed, and once the old ones are gone it prints
    within how many milliseconds a transaction could begin.

    fdbcli itself would go on for 3 s, so that its requests go out before it ends (KillCommand.actor.cpp).
    """
    ask = fdbcli(f"kill; kill {' '.join(sorted(endpoints))}", seconds=seconds)
    return f"""{_CLOCK}
old=$(pidof fdbserver) || exit 0
out=$(mktemp); trap 'rm -f $out' EXIT
{ask} > $out 2>&1 & cli=$!
gone() {{ for pid in $old; do [ ! -e /proc/$pid/stat ] || grep -q ') Z ' /proc/$pid/stat || return 1; done; }}
ended=
until gone; do
[ -n "$ended" ] || kill -0 $cli 2>/dev/null || {{ wait $cli; ended=$?; }}
if [ "${{ended:-0}}" -ne 0 ] || [ $(( $(now) - began )) -ge {seconds * 1000} ]; then cat $out >&2; exit 1; fi
sleep 0.05; done
began=$(now)
seen=$({fdbcli("getversion", seconds=seconds)} 2>&1) && echo "serving $(( $(now) - began ))"; true"""


_CLOCK = """now() { echo $(( $(date +%s%N) / 1000000 )); }
began=$(now)"""


def parse_bounce(lines: Iterable[str]) -> dict[str, Any]:
    """What `bounce_command` has measured, for the report's entry; nothing where no transaction could begin."""
    found = [line.split()[1] for line in lines if line.startswith("serving ")]
    return {"serving_again_seconds": round(int(found[-1]) / 1000, 2)} if found else {}


def look_at_host(on: Any, is_server: bool) -> HostSeen:
    """What a host has and runs. Raises Failure."""
    installation = Installation()
    script = (ON_SERVERS if is_server else ON_CLIENTS) + 'echo "free $(df --output=avail -B1 /opt | tail -n 1)"'
    lines = conduct.run(on, f"{installation.command()}\n{script}", "look at FoundationDB")
    return parse_host(installation.process(lines), lines)


def parse_host(installed: Installed, lines: list[str]) -> HostSeen:
    """What `ON_SERVERS` or `ON_CLIENTS` print, among other lines, with what the fact says."""
    found: dict[str, set[str]] = {"running": set(), "external": set(), "peer": set()}
    free, workers, conf = "0", [], ""
    for line in lines:
        kind, _, rest = line.strip().partition(" ")
        if kind == "free":
            free = rest.strip()
        elif kind == "conf":
            conf = rest.partition(" ")[0]
        elif kind == "peer":
            found[kind].add(rest)
        elif kind == "worker" and (versions := re.findall(r"\d+\.\d+\.\d+", rest)):
            workers.append(frozenset(versions))
        elif kind in found and (version := re.search(r"\d+\.\d+\.\d+", rest)):
            found[kind].add(version[0])
    return HostSeen(
        releases=installed.releases,
        current=installed.current,
        configured=installed.configured,
        running=frozenset(found["running"]).union(*workers),
        workers=tuple(workers),
        external=frozenset(found["external"]),
        free_bytes=int(free),
        conf=conf,
        peers=frozenset(found["peer"]),
    )
