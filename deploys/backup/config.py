"""The backup host's files and commands: pure.

FoundationDB's agents do the work of a continuous backup: snapshots of the whole database again and again, and the
log of every mutation between them (apple/foundationdb, documentation/sphinx/source/backups.rst). Every agent must
reach the backup's URL, so with a file:// URL they run on one host; with an object store they do, too.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.model import Cluster, Host
from cluster.pki.authority import Authority
from deploys.backup import object_store
from deploys.foundationdb import config as foundationdb
from deploys.foundationdb.cluster_file import ClusterFile
from deploys.foundationdb.config import as_foundationdb, fdbcli
from deploys.framework.render import render
from deploys.framework.tree import Entry, File, Link

TEMPLATES = Path(__file__).parent / "templates"
TAG = "default"
AGENT = "griddle-backup-agent@{}.service"
TIMERS = ("griddle-backup-upkeep.timer", "griddle-backup-expire.timer")
UNIT_FILES = {name: f"/etc/systemd/system/{name}" for name in ("griddle-backup-agent@.service", *TIMERS)}
INPUTS = (foundationdb.TLS_ENVIRONMENT, object_store.ENVIRONMENT)
"""What agents read besides their unit."""
UPKEEP = "/usr/local/lib/griddle/backup-upkeep"
TIMES = "/var/lib/griddle/backup-times"
"""A line each minute: seconds since 1970, the version that the backup had reached, the backup's URL. A database
that was destroyed cannot say any more which version belongs to which time.
"""

MINUTES_PER_DAY = 24 * 60

# A database of its own, for as long as a backup is verified.
SCRATCH = f"{foundationdb.DATA}/verify"
SCRATCH_CLUSTER_FILE = f"{SCRATCH}/fdb.cluster"
SCRATCH_PORT = 4690
SCRATCH_SECONDS = 4 * 3600
RESTORE = "griddle-verify-restore"
READ_SECONDS = 60
STATUS_SECONDS = 30
LIST_SECONDS = 120
TRACED = '(ResponseCode|S3ErrorCode|VerifyError|RemoteHost|Error)="[^"]+"'
NAME_BY_TIME = "date -u +backup-%Y-%m-%d-%H-%M-%S"


def host(cluster: Cluster) -> Host:
    """Where the agents run."""
    (found,) = cluster.group("metrics")
    return found


def directory(data: dict) -> str | None:
    """Where a file:// URL points."""
    url = data["fdb_backup_url"]
    return url.removeprefix("file://") if url.startswith("file://") else None


def tool(name: str, arguments: str, cluster_file: str = foundationdb.CLUSTER_FILE, seconds: int = 60) -> str:
    """A shell command: fdbbackup or fdbrestore, as FoundationDB's user."""
    verb, _, rest = arguments.partition(" ")
    option = {"fdbrestore": f"--dest-cluster-file {cluster_file} ", "fdbbackup": f"-C {cluster_file} "}[name]
    if verb == "list":  # the one that asks no database, and knows no such option
        option = ""
    tools = foundationdb.CURRENT if verb == "list" else foundationdb.tools(cluster_file)
    return _with_store(f"timeout {seconds} {tools}/bin/{name} {verb} {option}{rest}")


def _with_store(command: str) -> str:
    """A shell command: one of the tools that may ask the object store; never with a secret among its words."""
    return as_foundationdb(f"env $(cat {object_store.ENVIRONMENT} 2>/dev/null) {command}")


def status_command() -> str:
    """Prints the backup's state as one JSON document."""
    return tool("fdbbackup", f"status -t {TAG} --json", seconds=STATUS_SECONDS)


def errors_command() -> str:
    """A shell command that prints what has kept agents from getting further since the newest restorable version, a
    line for each kind. The JSON document's Errors are empty, whatever happens (7.3.77, FileBackupAgent.actor.cpp).
    """
    text = tool("fdbbackup", f"status -t {TAG}", seconds=STATUS_SECONDS)
    return f"{text} 2>/dev/null | sed -n '/^Recent Errors/,/^Past Errors/p' | grep ' ago : '; true"


def begin_command(data: dict, *, instead: bool = False) -> str:
    """A shell command that begins a continuous backup, in a place of its own below the URL.

    :param instead: of one that runs: it is ended, and stays where it is. Not before the store of the new one has
        answered, and the times that it reached are noted first: they are how a restore finds it
    """
    start = f"start -t {TAG} -z -s {data['fdb_backup_snapshot_seconds']} -d {_begun(data['fdb_backup_url'])}"
    end = [f"{UPKEEP} || true", tool("fdbbackup", f"abort -t {TAG}")] if instead else []
    store = [f"{list_command(data)} >/dev/null"] if object_store.place(data["fdb_backup_url"]) else []
    return "\n".join(["set -e", *store, *end, tool("fdbbackup", start)])


def _begun(url: str) -> str:
    """For a shell: its place. To a directory FoundationDB adds a name by the time; to a blobstore:// URL it adds
    nothing, and would mix a second backup's files with the first's (FileBackupAgent.actor.cpp, submitBackup).
    """
    if not (to := object_store.place(url)):
        return shlex.quote(url)
    below = str(replace(to, name=f"{to.name}/"))
    return "".join([shlex.quote(below.partition("?")[0]), f'"$({NAME_BY_TIME})"', shlex.quote(f"?{to.query}")])


def list_command(data: dict) -> str:
    """A shell command that prints the URL of each backup, of an object store those of the whole bucket. What a
    store that refuses has said is in FoundationDB's trace alone, so that is where the error's words are from.
    """
    if not (to := object_store.place(data["fdb_backup_url"])):
        return tool("fdbbackup", f"list -b {shlex.quote(data['fdb_backup_url'])}")
    asked = tool("fdbbackup", f"list -b {shlex.quote(to.bucket_url)} --log --logdir $log", seconds=LIST_SECONDS)
    whom = f"{to.host}{to.port and ':'}{to.port}, bucket {to.parameters['bucket']}"
    return "\n".join(
        [
            "(",
            "log=$(mktemp -d) && chown foundationdb $log && trap 'rm -rf $log' EXIT",
            f"if {asked} > $log/said 2>&1; then grep '^blobstore://' $log/said || true; exit 0; fi",
            f"seen=$(cat $log/trace.*.xml | grep -oE '{TRACED}' | sort -u | tr '\\n' ' ')",
            f'echo "the object store {whom}: ${{seen:-$(tail -n 1 $log/said)}}" >&2; exit 1',
            ")",
        ]
    )


@dataclass(frozen=True)
class Part:
    """Rows of a database: the first so many from a key on, which is spelt as fdbcli wants it."""

    begin: str = '""'
    rows: int = 999_999_999

    def __str__(self) -> str:
        return "everything" if self == Part() else f"up to {self.rows:,} keys from {self.begin} on"


BOUNDARIES = "option on READ_SYSTEM_KEYS; getrangekeys \\xff/keyServers/ \\xff/keyServers/\\xff 10000"
"""For fdbcli: the keys at which shards begin."""


def boundaries(lines: Iterable[str]) -> list[str]:
    """What fdbcli says to BOUNDARIES, without system keys; in hex, for quotes and spaces would end a word."""
    prefix, found = "`\\xff/keyServers/", []
    for line in lines:
        if line.startswith(prefix) and line.endswith("'") and not line.startswith(f"{prefix}\\xff"):
            shown = re.findall(r"\\x([0-9a-f]{2})|\\(\\)|(.)", line[len(prefix) : -1])
            key = [code or f"{ord(backslash or plain):02x}" for code, backslash, plain in shown]
            found.append("".join(f"\\x{code}" for code in key) or '""')
    return found


def digest_command(cluster_file: str, part: Part) -> str:
    """A shell command that prints `digest VERSION KEYS BYTES SHA256` of a part of a database, read in one
    transaction, as fdbcli spells it; below it the ERROR, as when that took longer than a transaction lives, 5 s.
    """
    commands = f"begin; getversion; getrange {part.begin} \\xff {part.rows}; reset"
    return "\n".join(
        [
            "out=$(mktemp)",
            f"{fdbcli(commands, cluster_file, READ_SECONDS)} > $out 2>&1 || true",
            "rows() { grep -a '^`' $out; }",
            "version=$(grep -axm1 '[0-9]*' $out)",
            "echo digest $version $(rows | wc -l) $(rows | wc -c) $(rows | sha256sum | cut -c1-64)",
            "grep -a ^ERROR $out || true; rm $out",
        ]
    )


def scratch_script(data: dict, url: str, version: int, part: Part) -> str:
    """A shell script that restores a version into a database of its own on this host, prints the digest of a part
    of it, and leaves nothing behind. One whose operator was killed is ended first. Its lock is its own, for it
    takes long and changes nothing that an apply does.
    """
    release = foundationdb.CURRENT
    unit = f"systemd-run -q --collect -p User=foundationdb -p RuntimeMaxSec={SCRATCH_SECONDS}"
    agent = f"{unit} -p EnvironmentFile=-{object_store.ENVIRONMENT} --unit=griddle-verify-agent"
    restore = tool(
        "fdbrestore",
        f"start -t {TAG} -r {shlex.quote(url)} -v {version} -w",
        SCRATCH_CLUSTER_FILE,
        SCRATCH_SECONDS,
    )
    return "\n".join(
        [
            "set -eu",
            f"systemctl stop {RESTORE} 2>/dev/null || true",
            "exec 8>/run/lock/griddle-verify",
            f"flock -w {3 * READ_SECONDS} 8 || {{ echo 'another verify is at work on this host' >&2; exit 1; }}",
            "end() { systemctl stop griddle-verify-agent griddle-verify-server 2>/dev/null || true; "
            f"rm -rf {SCRATCH}; }}",
            "trap end EXIT; end",
            f"install -d -m 700 -o foundationdb -g foundationdb {SCRATCH} {SCRATCH}/data",
            f"echo verify:verify@127.0.0.1:{SCRATCH_PORT} > {SCRATCH_CLUSTER_FILE}",
            f"chown foundationdb {SCRATCH_CLUSTER_FILE}",
            f"{unit} --unit=griddle-verify-server {release}/sbin/fdbserver -C {SCRATCH_CLUSTER_FILE} "
            f"-p 127.0.0.1:{SCRATCH_PORT} -d {SCRATCH}/data -L {SCRATCH} --cache-memory 100MiB",
            f"{agent} {release}/lib/foundationdb/backup_agent/backup_agent "
            f"-C {SCRATCH_CLUSTER_FILE} --memory {data['fdb_backup_memory']}",
            f"{fdbcli('configure new single ssd', SCRATCH_CLUSTER_FILE, READ_SECONDS)} >/dev/null",
            f"systemd-run -q --collect --wait --pipe --unit={RESTORE} sh -c {shlex.quote(restore)}"
            f" > {SCRATCH}/log 2>&1 || {{ tail -n 3 {SCRATCH}/log; exit 1; }}",
            digest_command(SCRATCH_CLUSTER_FILE, part),
        ]
    )


def agents(data: dict) -> list[str]:
    """Units of the agents, which run side by side."""
    return [AGENT.format(number) for number in range(1, data["fdb_backup_agents"] + 1)]


def files(this: Host, seed: ClusterFile, authority: Authority) -> dict[str, Entry]:
    """Agents, upkeep, and what FoundationDB's tools need beside them, on the host that the agents run on."""
    data = this.data
    expire = f'expire -d "$url" --delete-before-days {data["fdb_backup_keep_days"]}'
    values = {
        "release": foundationdb.release(data["fdb_version"]),
        "cluster_file": foundationdb.CLUSTER_FILE,
        "environments": (foundationdb.TLS_ENVIRONMENT, object_store.ENVIRONMENT),
        "knobs": f" --knob_tls_cert_refresh_delay_seconds={foundationdb.TLS_REFRESH_SECONDS}"
        if data["fdb_tls"] or data["fdb_backup_ca"]
        else "",
        "memory": data["fdb_backup_memory"],
        "writable": " ".join(filter(None, (foundationdb.DATA, directory(data)))),
        "upkeep": UPKEEP,
        "status": status_command(),
        "expire": tool("fdbbackup", expire, seconds=3600),
        "times": TIMES,
        "kept_lines": data["fdb_backup_keep_days"] * MINUTES_PER_DAY,
        "most_lines": (data["fdb_backup_keep_days"] + 1) * MINUTES_PER_DAY,
    }
    run_by_timers = [timer.replace(".timer", ".service") for timer in TIMERS]
    return {
        foundationdb.CURRENT: Link(data["fdb_version"]),
        **foundationdb.tool_files(),
        foundationdb.SEED: File(str(seed)),
        **foundationdb.tls_files(this, authority),
        **object_store.files(data, authority),
        **{path: File(render(TEMPLATES / f"{name}.j2", **values)) for name, path in UNIT_FILES.items()},
        **{
            f"/etc/systemd/system/{name}": File(render(TEMPLATES / f"{name}.j2", **values))
            for name in run_by_timers
        },
        UPKEEP: File(render(TEMPLATES / "backup-upkeep.j2", **values), "755"),
    }


def directories(data: dict) -> dict[str, tuple[str, str, str]]:
    """{path: (mode, owner, group)}; of a file:// URL also the backups' own directory."""
    owner = ("foundationdb", "foundationdb")
    found = {"/etc/foundationdb": ("755", "root", "root"), foundationdb.DATA: ("755", *owner)}
    if path := directory(data):
        found[path] = ("700", *owner)
    return found
