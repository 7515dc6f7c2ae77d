"""The verb `fdb upgrade`: looks at hosts and cluster, and takes the steps that `plan` names."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from deploys import conduct, model, report
from deploys.conduct import Plan, Step
from deploys.foundationdb import config, operations, plan, status
from deploys.foundationdb.deploy import limits, packages_for
from deploys.foundationdb.facts import Installation, Installed, fdbcli, status_command
from deploys.foundationdb.plan import HostSeen, Seen, Target
from deploys.foundationdb.status import Document, Limits
from deploys.shell import exclusive, upload_path
from deploys.tree import File, Link
from ops import artifacts
from ops.errors import Failure, UserError

POLL_SECONDS = 0.5
UNPACKED_TIMES = 6  # an unpacked version and the work beside it, in sizes of its packages
ROOM_BYTES = 200 * 1024**2


class Upgrade:
    """`fdb upgrade VERSION`."""

    def __init__(self, version: str, rolling: bool) -> None:
        self.title = f"fdb upgrade {version}"
        self._cluster = model.cluster()
        self._servers = {host.name: host for host in self._cluster.group("fdb")}
        self._clients = {host.name: host for host in self._cluster.group("apps") if host.name not in self._servers}
        self._target = self._make_target(version, rolling)

    def look(self) -> Seen:
        seen = conduct.on_all([*self._servers, *self._clients], _look_at)
        return Seen(
            look_at_cluster(next(iter(self._servers))),
            {name: seen[name] for name in self._servers if name in seen},
            {name: seen[name] for name in self._clients if name in seen},
        )

    def plan(self, seen: Seen) -> Plan:
        return plan.upgrade(seen, self._target)

    def act(self, step: Step, entry: dict[str, Any]) -> None:
        getattr(self, f"_{step.action}")(entry, *step.arguments)

    def _make_target(self, version: str, rolling: bool) -> Target:
        endpoints = {
            name: frozenset(process.endpoint for process in config.processes(host))
            for name, host in self._servers.items()
        }
        values = {"version": version, "rolling": rolling, "endpoints": endpoints, "limits": limits(self._cluster)}
        try:
            found = artifacts.resolve(version)
        except UserError as error:
            return Target(**values, problem=str(error))
        size = sum(path.stat().st_size for path in (found.clients, found.server))
        return Target(**values, needed_bytes=UNPACKED_TIMES * size + ROOM_BYTES)

    # --- steps

    def _stage(self, entry: dict[str, Any], *names: str) -> None:
        version = self._target.version

        def stage(on: Any) -> None:
            packages = packages_for(version, model.short_name(on.name) in self._servers)
            uploads = {upload_path(package.path): package for package in packages}
            for remote, package in uploads.items():
                if not on.put_file(str(package.path), remote):
                    raise Failure(f"{on.name}: {package.path.name} could not be uploaded")
            sums = {remote: package.sha256 for remote, package in uploads.items()}
            script = operations.unpack_command(version, sums, [package.name for package in packages])
            conduct.run(on, exclusive(script), f"stage {version}", seconds=600)

        conduct.on_all(names, stage)

    def _switch(self, entry: dict[str, Any], *names: str) -> None:
        def switch(on: Any) -> None:
            host = self._servers[model.short_name(on.name)]
            host = dataclasses.replace(host, data={**host.data, "fdb_version": self._target.version})
            files = {config.CURRENT: Link(self._target.version), config.CONF: File(config.foundationdb_conf(host))}
            conduct.install_files(on, "foundationdb", files)

        conduct.on_all(names, switch)

    def _bounce(self, entry: dict[str, Any]) -> None:
        (on, *_) = conduct.hosts(self._servers)
        # The first kill only fills fdbcli's list of processes.
        conduct.run(on, fdbcli("kill; kill all; sleep 1", seconds=30), "bounce")
        everything = frozenset().union(*self._target.endpoints.values())

        def back(seen: Document | None) -> bool:
            found = {p.endpoint: p.version for p in status.processes(seen)}
            return status.is_available(seen) and all(found.get(e) == self._target.version for e in everything)

        wait_for(on.name, back, 120, "all processes run the new version")

    def _healthy(self, entry: dict[str, Any]) -> None:
        wanted = dataclasses.replace(self._target.limits, version=self._target.version)
        first = next(iter(self._servers.values()))
        health = wait_for_health(first.name, wanted, first.data["fdb_health_seconds"])
        entry["gates"] = report.gates(health.gates)

    def _point_clients(self, entry: dict[str, Any], *names: str) -> None:
        conduct.on_all(
            names,
            lambda on: conduct.install_files(on, "foundationdb", {config.CURRENT: Link(self._target.version)}),
        )


def _look_at(on: Any) -> HostSeen:
    installed: Installed = on.get_fact(Installation)
    lines = conduct.run(
        on,
        f"sed -n 's|^command = {config.RELEASES}/\\([^/]*\\)/.*|\\1|p' {config.CONF} 2>/dev/null; "
        "df --output=avail -B1 /opt | tail -n 1",
        "look at FoundationDB",
    )
    *configured, free = lines
    return HostSeen(installed.releases, installed.current, configured[0] if configured else "", int(free))


def look_at_cluster(host: str, seconds: int = 10) -> Document | None:
    (on,) = conduct.hosts([host])
    return status.parse("\n".join(conduct.run(on, status_command(seconds=seconds), "status json", seconds + 30)))


def wait_for(host: str, good: Callable[[Document | None], bool], seconds: float, what: str) -> Document | None:
    """Poll the cluster's status until it is good; raises Failure."""
    end = time.monotonic() + seconds
    while not good(seen := look_at_cluster(host)):
        if time.monotonic() > end:
            raise Failure(f"{what}: not within {seconds:.0f} s")
        time.sleep(POLL_SECONDS)
    return seen


def wait_for_health(host: str, limits: Limits, seconds: float) -> status.Health:
    """Poll until every gate is green; raises Failure with those that are not."""
    end = time.monotonic() + seconds
    while not (health := status.judge(look_at_cluster(host), limits)).ok:
        if time.monotonic() > end:
            raise Failure(f"not healthy within {seconds:.0f} s: {health}")
        time.sleep(POLL_SECONDS)
    return health
