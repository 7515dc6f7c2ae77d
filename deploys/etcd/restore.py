"""The verb `etcd restore`: looks at every host, and takes the steps that `recovery` names."""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import gevent

from cluster import model
from cluster.errors import Failure, UserError
from deploys.conductor import conduct
from deploys.conductor.conduct import Plan, Verb
from deploys.etcd import config, look, membership_plan, restore_plan
from deploys.etcd.look import Found
from deploys.etcd.membership import INPUTS, SERVE_SECONDS, hosts_of, look_at_hosts
from deploys.etcd.restore_plan import Copy, Looked, Stage
from deploys.framework import units
from deploys.framework.shell import exclusive, upload_path

WORK = config.RESTORE
COPY_SECONDS = 1800
_STOP = f"systemctl disable --now --quiet {config.UNIT} {config.TIMER} 2>/dev/null"


class Restore(Verb):
    """`wanted`: HOST:PATH, or "" for what has come farthest."""

    wait_ms = 0  # there is no etcd by which it could be announced

    def __init__(self, title: str, wanted: str = "") -> None:
        self.title = title
        self._wanted = wanted
        self._cluster = model.cluster()
        self._hosts = hosts_of(self._cluster)
        self._ended = False

    def look(self) -> Looked:
        found = look_at_hosts()
        script = stage_command(self._cluster.name, self._wanted.partition(":")[2])
        stages = conduct.on_all(
            found, lambda on: parse_stage(model.short_name(on.name), conduct.run(on, script, "look", COPY_SECONDS))
        )
        return Looked(found, stages, self._alive(found))

    def plan(self, seen: Looked) -> Plan:
        return Plan() if self._ended else restore_plan.plan(seen, self._hosts, self._wanted)

    def actions(self) -> Mapping[str, Callable[..., None]]:
        return {
            "stop": self._stop,
            "choose": self._choose,
            "bring": self._bring,
            "restore": self._restore,
            "start": self._start,
            "end": self._end,
        }

    # --- steps

    def _stop(self, entry: dict[str, Any], *names: str) -> None:
        # In order, so its database holds all that it has applied; and not at boot, before all hosts are restored.
        script = f"{_STOP}; ! systemctl is-active -q {config.UNIT}"
        conduct.on_all(names, lambda on: conduct.run(on, exclusive(script), "stop etcd", 120))

    def _choose(self, entry: dict[str, Any], wanted: str) -> None:
        seen = self.look()
        if restore_plan.left_over(seen, self._hosts.group):
            script = exclusive(f"rm -f {WORK}/begun && rm -f {WORK}/done {WORK}/aside")  # in this order
            conduct.on_all(self._hosts.group, lambda on: conduct.run(on, script, "forget an earlier restore"))
            seen = self.look()
        checksum = restore_plan.begun(seen, self._hosts.group)
        if not checksum:
            copy = restore_plan.chosen(seen, wanted)
            if copy is None:
                raise UserError(f"{wanted or 'a snapshot'}: no such file, or etcdctl cannot read it")
            checksum = copy.checksum
            entry |= {"from": f"{copy.host}:{copy.path}", "revision": copy.revision}
        words = shlex.quote(" ".join([checksum, *self._hosts.group]))
        script = (
            f"set -e; install -d -m 700 {WORK}\n"
            f"[ ! -e {WORK}/begun ] || exit 0\nrm -f {WORK}/done {WORK}/aside\n"
            f"echo {words} > {WORK}/begun.new; sync; mv {WORK}/begun.new {WORK}/begun"
        )
        conduct.on_all(self._hosts.group, lambda on: conduct.run(on, exclusive(script), "write it down"))

    def _bring(self, entry: dict[str, Any]) -> None:
        seen = self.look()
        checksum = restore_plan.begun(seen, self._hosts.group)
        have = [name for name in self._hosts.group if seen.stages[name].has == checksum]
        if not have:
            every = [copy for stage in seen.stages.values() for copy in stage.copies if copy.checksum == checksum]
            if not every:
                raise Failure(f"no host has what was chosen any more: rm -r {WORK} on all hosts to choose anew")
            self._on(every[0].host, f"install -d -m 700 {WORK}; cp {shlex.quote(every[0].path)} {WORK}/copy.db")
            have = [every[0].host]
        lacking = [name for name in self._hosts.group if seen.stages[name].has != checksum and name not in have]
        with tempfile.TemporaryDirectory() as directory:
            local = Path(directory) / "etcd.db"
            self._fetch(have[0], local)
            conduct.on_all(lacking, lambda on: self._send(on, local, checksum))
            entry["bytes"] = local.stat().st_size

    def _restore(self, entry: dict[str, Any], name: str) -> None:
        checksum = restore_plan.begun(self.look(), self._hosts.group)
        self._on(name, restore_command(self._cluster.name, name, self._hosts.group, checksum))

    def _start(self, entry: dict[str, Any]) -> None:
        start = units.act_command(config.UNIT, "start", INPUTS, block=False)
        timer = units.act_command(config.TIMER, "start", INPUTS)
        script = exclusive(f"set -e\n{start}\n{timer}")
        conduct.on_all(self._hosts.group, lambda on: conduct.run(on, script, "start etcd", 120))
        deadline = time.monotonic() + SERVE_SECONDS
        while not all(
            membership_plan.serves(each) for name, each in look_at_hosts().items() if name in self._hosts.group
        ):
            if time.monotonic() > deadline:
                raise Failure(f"not every member serves after {SERVE_SECONDS} s: ./griddle etcd status")
            gevent.sleep(0.5)

    def _end(self, entry: dict[str, Any]) -> None:
        self._ended = True
        script = exclusive(f"rm -f {WORK}/begun && rm -rf {WORK}")  # killed between, it is seen as over
        conduct.on_all(look_at_hosts(), lambda on: conduct.run(on, script, "remove what was restored from"))

    # --- what they are made of

    def _alive(self, found: Mapping[str, Found]) -> tuple[str, ...]:
        """Members that nobody here reached, but other members do."""
        known = {peer for name, peer in (self._hosts.group | self._hosts.others).items() if name in found}
        listed = {member.peer: self._hosts.name(member) for each in found.values() for member in each.members}
        strangers = {peer: name for peer, name in listed.items() if peer not in known}
        asking = [name for name, each in found.items() if each.members]
        if not strangers or not asking:
            return ()
        (on,) = conduct.hosts(asking[:1])
        lines = conduct.run(on, look.peers_command(strangers), "ask the other members")
        return tuple(sorted(strangers[line] for line in lines if line in strangers))

    def _on(self, name: str, script: str) -> None:
        (on,) = conduct.hosts([name])
        conduct.run(on, exclusive(f"set -e\n{script}"), "restore", COPY_SECONDS)

    def _fetch(self, name: str, local: Path) -> None:
        (on,) = conduct.hosts([name])
        remote = upload_path(local)
        user = self._cluster.hosts[name].data["ssh_user"]
        conduct.run(on, f"install -m 600 -o {user} {WORK}/copy.db {remote}", "fetch the copy", COPY_SECONDS)
        if not on.get_file(remote, str(local)):
            raise Failure(f"{name}: {remote} cannot be fetched")
        conduct.run(on, f"rm -f {remote}", "fetch the copy")

    def _send(self, on: Any, local: Path, checksum: str) -> None:
        remote = upload_path(local)
        if not on.put_file(str(local), remote):
            raise Failure(f"{model.short_name(on.name)}: {remote} cannot be uploaded")
        script = (
            f"set -e; install -d -m 700 {WORK}; install -m 600 {remote} {WORK}/copy.db; rm -f {remote}\n"
            f"echo '{checksum}  {WORK}/copy.db' | sha256sum -c --quiet"
        )
        conduct.run(on, exclusive(script), "take the copy", COPY_SECONDS)


def stage_command(cluster: str, wanted: str = "") -> str:
    """The shell script that looks how far a host has come; read back by `parse_stage`."""
    member = f"{config.DATA}/{shlex.quote(cluster)}/member"
    database, logs = f"{member}/snap/db", f"{member}/wal/*.wal"
    return "\n".join(
        [
            f'for what in begun done; do [ ! -f {WORK}/$what ] || echo "$what $(cat {WORK}/$what)"; done',
            f'[ ! -f {WORK}/copy.db ] || echo "has $(sha256sum {WORK}/copy.db | cut -c1-64)"',
            "command -v etcdctl >/dev/null || exit 0",
            'copy() { said=$(ETCDCTL_API=3 etcdctl snapshot status "$1" -w json 2>/dev/null) || return 0',
            '  revision=$(echo "$said" | sed -n \'s/.*"revision":\\([0-9]*\\).*/\\1/p\')',
            '  echo "copy $revision $(sha256sum "$1" | cut -c1-64) $1"; }',
            f"newest=$(ls -1 {config.SNAPSHOTS}/*.db 2>/dev/null | tail -n 1)",
            f"for file in $newest {shlex.quote(wanted) if wanted else ''}; do",
            '  [ ! -f "$file" ] || copy "$file"; done',
            f"case $(systemctl show -p ActiveState --value {config.UNIT}) in inactive | failed)",
            f"  ! ls {logs} >/dev/null 2>&1 || copy {database} ;; esac; true",
        ]
    )


def parse_stage(host: str, lines: Iterable[str]) -> Stage:
    """What the script said."""
    copies, values = [], {}
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "copy":
            revision, checksum, path = rest.split(" ", 2)
            copies.append(Copy(host, path, int(revision or 0), checksum))
        elif word == "begun":
            values["begun"], *group = rest.split()
            values["group"] = tuple(group)
        elif word in ("done", "has"):
            values[word] = rest
    return Stage(copies=tuple(copies), **values)


def restore_command(cluster: str, name: str, group: Mapping[str, str], checksum: str) -> str:
    """The shell script that makes the copy this host's data. Killed anywhere, it is begun again."""
    data, fresh = f"{config.DATA}/{shlex.quote(cluster)}", f"{config.DATA}/.restored"
    return "\n".join(
        [
            f"{_STOP} || true",
            f"install -d -m 700 -o etcd -g etcd {config.DATA}; rm -rf {fresh}",
            f"ETCDCTL_API=3 etcdctl snapshot restore {WORK}/copy.db --skip-hash-check --name {name}"
            f" --initial-cluster {config.initial_cluster(group)}"
            f" --initial-cluster-token {config.token(cluster, checksum[:12])}"
            f" --initial-advertise-peer-urls https://{group[name]} --data-dir {fresh} 2>&1",
            f"chown -R etcd:etcd {fresh}",
            f"if [ ! -e {WORK}/aside ] && [ -d {data} ]; then",
            f"  rm -rf {config.ASIDE}; install -d -m 700 {config.ASIDE}; mv {data} {config.ASIDE}/; fi",
            f"touch {WORK}/aside; rm -rf {data}; mv {fresh} {data}; sync",
            f"echo {checksum} > {WORK}/done",
        ]
    )
