"""`griddle fdb backup` and `griddle fdb restore`, from the operator's side."""

from __future__ import annotations

import datetime
import json
import shlex
from pathlib import Path
from typing import Any

from cluster.errors import Failure, UserError
from deploys.backup import config
from deploys.backup import status as states
from ops import hosts
from ops.fdb import run as runner


def run(checkout: Path, inventory: str, verb: str, *, dry: bool) -> None:
    """`now` or `verify`, see deploys/fdb_backup.py."""
    _run(checkout, inventory, "fdb_backup", {"backup": verb}, dry)


def restore(
    checkout: Path, inventory: str, to_version: int | None, to_time: str | None, *, replace: bool, dry: bool
) -> None:
    """See deploys/fdb_restore.py."""
    if (to_version is None) == (to_time is None):
        raise UserError("restore needs --to-version or --to-time; ./griddle fdb backup status says what there is")
    target = {"to_version": to_version} if to_time is None else {"to_time": seconds_of(to_time)}
    _run(checkout, inventory, "fdb_restore", {**target, "replace_data": replace}, dry)


def _run(checkout: Path, inventory: str, deploy: str, data: dict[str, Any], dry: bool) -> None:
    options = runner.without(runner.lost(hosts.cluster(checkout / inventory)))
    runner.run(checkout, inventory, deploy, data, dry=dry, options=options)


def seconds_of(text: str) -> int:
    """Seconds since 1970 of an ISO time, which must say its zone."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"--to-time {text!r}: a time such as 2026-05-17T14:03:00Z is needed") from None
    if moment.tzinfo is None:
        raise UserError(f"--to-time {text!r} has no zone: {text}Z for UTC, or {text}+02:00")
    return int(moment.timestamp())


def status(checkout: Path, inventory: str, *, as_json: bool) -> None:
    """Print the state of the continuous backup."""
    found = look(checkout, inventory)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    if not found["running"]:
        print(f"no continuous backup runs; the last one: {found['url'] or 'none'}")
    else:
        size = "" if found["bytes"] is None else f", {found['bytes'] / 2**20:.1f} MiB in all"
        print(f"runs, to {found['url']} on {found['host']}{size}")
    if found["restorable_version"]:
        print(f"restorable to version {found['restorable_version']}, {found['restorable_time']}", end="")
        print("" if found["lag_seconds"] is None else f", {found['lag_seconds']:.0f} s behind the database")
    else:
        print("not restorable yet")
    print(f"agents running: {found['agents']}")
    for error in found["errors"]:
        print(f"error: {error}")
    for each in found["earlier"]:
        print(f"before: {each['url']}, to version {each['restorable_version']}, {each['restorable_time']}")


def look(checkout: Path, inventory: str) -> dict[str, Any]:
    """The document of `backup status --json`; times in UTC, `bytes` of all backups below a file:// URL, null where
    they are in an object store; `earlier`: what the notes of the agents' host say of backups that have ended.
    """
    cluster = hosts.cluster(checkout / inventory)
    if cluster.store_engine != "fdb" or not cluster.data["fdb_backup_url"]:
        raise UserError(f"cluster {cluster.name} has no FoundationDB with a backup (store_engine, fdb_backup_url)")
    host = config.host(cluster)
    size = f"du -sb {shlex.quote(config.directory(host.data) or '/nonexistent')} 2>/dev/null | cut -f1"
    agents = "systemctl list-units --plain --no-legend --state=active 'griddle-backup-agent@*' | wc -l"
    ended = f"awk '{{ last[$3] = $0 }} END {{ for (url in last) print last[url] }}' {config.TIMES} 2>/dev/null"
    script = f"{agents}; echo $({size}); {ended}; echo ---; {config.errors_command()}; {config.status_command()}"
    done = hosts.run(host, f"sudo sh -c {shlex.quote(script)}", 90)
    lines = done.stdout.decode(errors="replace").splitlines()
    if "---" not in lines[2:]:
        raise Failure(f"{host.name}: {done.stderr.decode(errors='replace').strip() or 'no answer'}")
    middle = lines.index("---", 2)
    seen = states.parse("\n".join(lines[middle + 1 :]))
    errors = [line for line in lines[middle + 1 :] if " ago : " in line]
    earlier = [each for each in states.moments(lines[2:middle]) if each.url != seen.url or not seen.running]
    return {
        "host": host.name,
        "running": seen.running,
        "url": seen.url,
        "restorable_version": seen.restorable,
        "restorable_time": states.utc(seen.at) if seen.restorable else None,
        "lag_seconds": seen.lag_seconds if seen.restorable else None,
        "agents": int(lines[0]),
        "bytes": int(lines[1] or 0) if config.directory(host.data) else None,
        "errors": errors,
        "earlier": [
            {"url": each.url, "restorable_version": each.version, "restorable_time": states.utc(each.at)}
            for each in earlier
        ],
    }
