"""The verbs `fdb backup now`, `fdb backup verify` and `fdb restore`: look, and take the steps that are left."""

from __future__ import annotations

import json
import random
import re
import shlex
import time
from collections.abc import Callable, Mapping
from typing import Any

from cluster import model
from cluster.errors import Failure, UserError
from cluster.progress import say
from deploys.backup import config, object_store, plan, status
from deploys.conductor import conduct
from deploys.conductor.conduct import Plan, Step, Verb
from deploys.foundationdb import config as foundationdb
from deploys.foundationdb import status as database
from deploys.foundationdb.database import RECOVERY_SECONDS, Database
from deploys.foundationdb.facts import fdbcli

STALLED_SECONDS = 180  # a backup that gets no further for so long has no agents, or no room
TELL_SECONDS = 15
AVAILABLE_SECONDS = 60
PAUSE_SECONDS = 30
SAMPLES = (200_000, 50_000, 10_000, 1_000)  # keys that are compared where all are too many for one transaction
TRANSACTION_TOO_OLD = 1007
SUBMITTED = "/var/lib/griddle/restore-submitted"


class _OnBackupHost(Verb):
    """What the verbs share: the host that the agents run on."""

    def __init__(self) -> None:
        self._cluster = model.cluster()
        self._host = config.host(self._cluster)
        self._data = self._host.data

    def _on(self) -> Any:
        found = conduct.hosts([self._host.name])
        if not found:
            raise UserError(
                f"{self._host.name} cannot be reached, and the backup's agents run there: start it first"
            )
        return found[0]

    def _database(self) -> Database:
        """The database, by way of this host."""
        return Database([self._host.name])

    def _run(self, command: str, what: str, seconds: int = 60) -> list[str]:
        return conduct.run(self._on(), command, what, seconds)

    def _backup(self) -> status.Backup:
        if not self._data["fdb_backup_url"]:
            raise UserError("fdb_backup_url is empty in the inventory's data: there is no backup")
        lines = self._run(f"{config.status_command()} 2>/dev/null; true", "backup's status")
        return status.parse("\n".join(lines))

    def _version(self) -> int:
        """The database's read version; 0 where it gives none, as while it is locked."""
        lines = self._run(f"{fdbcli('begin; getversion; reset')} 2>&1; true", "read version")
        return next((int(line) for line in lines if line.strip().isdigit()), 0)

    def _begin(self, entry: dict[str, Any]) -> None:
        self._run(config.begin_command(self._data), "begin a continuous backup", 300)

    def _wait_for(self, entry: dict[str, Any], version: int) -> None:
        seen, moved, told = self._backup(), time.monotonic(), time.monotonic()
        while seen.restorable < version:
            time.sleep(1)
            before, seen, now = seen, self._backup(), time.monotonic()
            if seen.restorable > before.restorable:
                moved = now
            if now - moved > STALLED_SECONDS:
                errors = "; ".join(self._run(config.errors_command(), "backup's errors"))
                errors = errors or f"do its agents run on {self._host.name}?"
                raise Failure(f"the backup stands still at version {seen.restorable}: {errors}")
            if now - told > TELL_SECONDS:
                told = now
                say(f"    restorable to version {seen.restorable}, {version - seen.restorable} to go")
        entry |= {"url": seen.url, "restorable_version": seen.restorable, "restorable_time": status.utc(seen.at)}
        say(f"    {seen.url} can be restored to version {seen.restorable}, {status.utc(seen.at)}")
        self._run(config.UPKEEP, "note the time")


class BackupNow(_OnBackupHost):
    """`fdb backup now`: everything that was acknowledged before the call can be restored."""

    title = "fdb backup now"

    def __init__(self) -> None:
        super().__init__()
        self._wanted = 0

    def look(self) -> status.Backup:
        if not self._wanted and not (version := self._version()):
            raise UserError("the database gives no read version: ./griddle fdb status")
        self._wanted = self._wanted or version
        return self._backup()

    def plan(self, seen: status.Backup) -> Plan:
        steps = []
        if not seen.running:
            steps.append(Step(f"begin a continuous backup to {self._data['fdb_backup_url']}", "begin"))
        if seen.restorable < self._wanted:
            steps.append(Step(f"wait until version {self._wanted} can be restored", "wait"))
        return Plan(tuple(steps))

    def actions(self) -> Mapping[str, Callable[..., None]]:
        return {"begin": self._begin, "wait": lambda entry: self._wait_for(entry, self._wanted)}


class Verify(_OnBackupHost):
    """`fdb backup verify`: the backup, restored into a database of its own, is what the live one was.

    Not into a range of the live one: a restore locks the whole database for as long as it takes.
    """

    title = "fdb backup verify"

    def __init__(self) -> None:
        super().__init__()
        self._live: dict[str, Any] | None = None
        self._part = config.Part()
        self._done = False

    def look(self) -> status.Backup:
        return self._backup()

    def plan(self, seen: status.Backup) -> Plan:
        if not seen.running:
            return Plan(refusals=("no continuous backup runs: ./griddle fdb backup now",))
        steps = []
        if self._live is None:
            steps.append(Step("read the live database, as much as can be read at one version", "read"))
        if self._live is None or seen.restorable < self._live["version"]:
            steps.append(Step("wait until that version can be restored", "wait"))
        if not self._done:
            steps.append(Step(f"restore it into another database on {self._host.name}, and compare", "compare"))
        return Plan(tuple(steps))

    def actions(self) -> Mapping[str, Callable[..., None]]:
        return {
            "read": self._read,
            "wait": lambda entry: self._wait_for(entry, self._live["version"]),
            "compare": self._compare,
        }

    def _read(self, entry: dict[str, Any]) -> None:
        """All of it, or what a transaction can read from a random place on: another one each time."""
        self._part = config.Part()
        samples = iter(SAMPLES)
        while (live := self._digest(config.digest_command(foundationdb.CLUSTER_FILE, self._part))) is None:
            if self._part == config.Part():
                lines = self._database().read(config.BOUNDARIES, "look where shards begin")
                begin = random.choice(config.boundaries(lines) or ['""'])
            if not (rows := next(samples, 0)):
                raise Failure(f"{self._part}: a transaction is too short for it: ./griddle fdb status")
            self._part = config.Part(begin, rows)
        self._live = live
        entry |= {"part": str(self._part), "live": live}

    def _digest(self, command: str) -> dict[str, Any] | None:
        """None where a transaction does not live long enough to read it."""
        lines = self._run(command, "read a database", config.SCRATCH_SECONDS)
        if any(line.startswith("ERROR") and f"({TRANSACTION_TOO_OLD})" in line for line in lines):
            return None
        match = re.search(r"digest (\d+) (\d+) (\d+) ([0-9a-f]{64})", "\n".join(lines))
        if not match or any(line.startswith("ERROR") for line in lines):
            raise Failure(f"a database could not be read at one version: {' / '.join(lines[-3:])}")
        version, keys, size, sha256 = match.groups()
        return {"version": int(version), "keys": int(keys), "printed_bytes": int(size), "sha256": sha256}

    def _compare(self, entry: dict[str, Any]) -> None:
        url = self._backup().url
        restored = self._digest(config.scratch_script(self._data, url, self._live["version"], self._part))
        if restored is None:
            raise Failure(f"{self._part}: read from the live database in time, but not from the restored one")
        entry |= {"live": self._live, "restored": restored}
        if any(restored[key] != self._live[key] for key in ("keys", "printed_bytes", "sha256")):
            raise Failure(f"the backup is not what the database was: {restored} instead of {self._live}")
        self._done = True
        say(f"    {self._part}: the same, {restored['keys']:,} keys, sha256 {restored['sha256']}")


class Restore(_OnBackupHost):
    """`fdb restore`."""

    def __init__(self, target: plan.RestoreTarget) -> None:
        super().__init__()
        self._target = target
        self._looked = self._finished = False
        when = f"version {target.version}" if target.at is None else status.utc(target.at)
        self.title = f"fdb restore to {when}"

    def look(self) -> plan.RestoreSeen:
        members = [host.name for host in self._cluster.group("fdb") if conduct.hosts([host.name])]
        patience = AVAILABLE_SECONDS if self._looked else RECOVERY_SECONDS  # each step may cost a recovery
        self._looked = True
        document = Database(members).look_when_recovered(patience) if members else None
        if not database.is_available(document):
            return plan.RestoreSeen(available=False)
        locked = database.get(document, "cluster.database_lock_state.locked") is True
        keys = [] if locked else self._database().read('getrange "" \\xff 1', "look for keys")
        lines = self._run(f"cat {config.TIMES} 2>/dev/null; echo ---; cat {SUBMITTED} 2>/dev/null; true", "notes")
        notes, submitted = status.moments(lines[: lines.index("---")]), lines[lines.index("---") + 1 :]
        backup = self._backup()
        return plan.RestoreSeen(
            available=True,
            locked=locked,
            empty=not locked and not any(line.startswith("`") for line in keys),
            stored_bytes=int(database.get(document, "cluster.data.total_kv_size_bytes") or 0),
            version=self._version(),
            backup=backup,
            reach=self._reach([backup.url, *(each.url for each in notes)]),
            notes=tuple(notes),
            restore=self._restore(),
            submitted=(int(submitted[0].split()[0]), submitted[0].split()[1]) if submitted else None,
        )

    def plan(self, seen: plan.RestoreSeen) -> Plan:
        return Plan() if self._finished else plan.plan(seen, self._target)

    def actions(self) -> Mapping[str, Callable[..., None]]:
        return {
            "end": self._end,
            "advance": self._advance,
            "replace_data": self._replace_data,
            "wait": self._wait,
            "begin_next": self._begin_next,
        }

    def _reach(self, known: list[str]) -> dict[str, tuple[int, int]]:
        """Of the backups below the data's URL, and of those that are known from before it was another one."""
        lines = self._run(config.list_command(self._data), "list backups", 120)
        found = {}
        for url in status.urls(lines, known, self._data["fdb_backup_url"]):
            asked = object_store.impatient(url)  # a former store may be no more
            describe = config.tool("fdbbackup", f"describe -d {shlex.quote(asked)} --json")
            described = self._run(f"{describe} 2>/dev/null; true", "describe a backup", 90)
            points = json.loads(next((line for line in described if line.startswith("{")), "{}"))
            if points.get("Restorable"):
                found[url] = (points["MinRestorablePoint"]["Version"], points["MaxRestorablePoint"]["Version"])
        return found

    def _restore(self) -> plan.Restore:
        line = " ".join(self._run(config.tool("fdbrestore", f"status -t {config.TAG}"), "restore's status"))
        if not (match := re.search(r"State: (\w+)", line)):
            return plan.Restore()
        url, version = re.search(r"URL: (\S+)", line), re.search(r"\bVersion: (\d+)", line)
        return plan.Restore(match[1], url[1] if url else "", int(version[1]) if version else 0)

    # --- steps

    def _end(self, entry: dict[str, Any]) -> None:
        self._run(config.tool("fdbbackup", f"abort -t {config.TAG}"), "end the running backup", 120)

    def _advance(self, entry: dict[str, Any], version: int) -> None:
        self._run(fdbcli(f"advanceversion {version + 1}", seconds=60), "advance the database's version", 120)

    def _submit(self, version: int, url: str) -> None:
        clear = fdbcli('writemode on; clearrange "" \\xff', seconds=30)
        start = config.tool("fdbrestore", f"start -t {config.TAG} -r {shlex.quote(url)} -v {version}")
        self._run(f"set -e; {clear}; {start}; echo '{version} {url}' > {SUBMITTED}", "destroy and restore", 120)

    def _replace_data(self, entry: dict[str, Any], version: int, url: str) -> None:
        # Whatever is written between the clearing and the lock would make the restore refuse, so the services ask
        # the store nothing for these seconds. They go on by themselves, even if this machine dies now.
        apps = [host.name for host in self._cluster.group("apps")]
        signal = "systemctl kill -s {} 'griddle-store@*'"
        later = f"systemd-run -q --collect --on-active={PAUSE_SECONDS} {signal.format('CONT')}"
        pause = f"{later}; {signal.format('STOP')}"
        conduct.on_all(apps, lambda on: conduct.run(on, pause, "pause store workers"))
        try:
            self._submit(version, url)
        finally:
            conduct.on_all(apps, lambda on: _let_go_on(on, signal.format("CONT")))

    def _wait(self, entry: dict[str, Any], version: int, url: str) -> None:
        self._run(f"echo '{version} {url}' > {SUBMITTED}", "note the restore")
        told = time.monotonic()
        while (seen := self._restore()).state in plan.GOING:
            if time.monotonic() - told > TELL_SECONDS:
                told = time.monotonic()
                say(f"    the restore is {seen.state}")
            time.sleep(1)
        if seen.state != "completed":
            raise Failure(f"the restore is {seen.state or 'unknown to the database'}, not completed")

    def _begin_next(self, entry: dict[str, Any]) -> None:
        if not self._backup().running:
            self._begin(entry)
        self._run(f"rm -f {SUBMITTED}", "forget the restore")
        self._finished = True


def _let_go_on(on: Any, command: str) -> None:
    """It is no failure of the restore where that cannot be done."""
    try:
        conduct.run(on, command, "let store workers go on", 20, cleanup=True)
    except Failure as problem:
        say(f"    {problem}; they go on by themselves {PAUSE_SECONDS} s after they were paused")
