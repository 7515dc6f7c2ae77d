"""`griddle etcd snapshot` and `griddle etcd restore`, from the operator's side."""

from __future__ import annotations

import shlex
from pathlib import Path

from cluster.errors import Failure, UserError
from cluster.model import GROUPS
from ops import hosts
from ops.etcd import members, status
from ops.fdb import run as runner

SNAPSHOT_SECONDS = 600


def take(checkout: Path, inventory: str, directory: Path | None) -> None:
    """A snapshot of what a majority agrees on, kept on its member, and here if `directory`."""
    cluster = hosts.cluster(checkout / inventory)
    found = status.seen(cluster)
    serving = [name for name, each in found.items() if each.status and each.status.leader]
    if not serving:
        raise Failure("no member of etcd has a majority: ./griddle etcd status")
    # one that follows has more time
    name = next((name for name in serving if found[name].status.id != found[name].status.leader), serving[0])
    host = cluster.hosts[name]
    done = hosts.run(host, "sudo griddle-etcd-snapshot", SNAPSHOT_SECONDS)
    if done.returncode:
        raise Failure(f"{name}: {done.stderr.decode(errors='replace').strip() or 'no answer'}")
    path = done.stdout.decode().split()[0]
    print(f"{name}:{path}")
    if directory:
        directory.mkdir(parents=True, exist_ok=True)
        target = directory / f"{name}-{Path(path).name}"
        copied = hosts.run(host, f"sudo cat {shlex.quote(path)}", SNAPSHOT_SECONDS)
        if copied.returncode:
            raise Failure(f"{name}: {path} cannot be read: {copied.stderr.decode(errors='replace').strip()}")
        target.touch(mode=0o600)
        target.write_bytes(copied.stdout)
        print(target)


def restore(checkout: Path, inventory: str, wanted: str, *, dry: bool) -> None:
    """See deploys/etcd_restore.py; then what follows the members."""
    cluster = hosts.cluster(checkout / inventory)
    name, _, path = wanted.partition(":")
    if wanted and not path.startswith("/"):
        raise UserError(f"--from {wanted}: HOST:PATH is needed, such as app1:/var/lib/etcd-snapshots/X.db")
    if wanted:
        hosts.host(cluster, name)
    lost = runner.lost(cluster, GROUPS)
    data = {"etcd_snapshot": wanted} if wanted else {}
    runner.run(checkout, inventory, "etcd_restore", data, dry=dry, options=runner.without(lost))
    if not dry:
        members.follow(checkout, inventory, lost)
