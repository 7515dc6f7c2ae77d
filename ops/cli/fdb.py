"""`./griddle fdb`: the commands of this group."""

from __future__ import annotations

import sys

import click

from ops.cli.options import CHECKOUT, Griddle, dry_option, inventory_option, json_option, lock_wait_option


@click.group(cls=Griddle)
def fdb() -> None:
    """FoundationDB on the running cluster. What changes it is a deploy (deploys/fdb_*.py).

    One operation at a time: etcd holds a lock with its owner's name. Interrupted or killed, the same command
    goes on where it stopped. --dry prints the plan and changes nothing. What an operation did, with each
    gate's values, is saved under results/operations/.
    """


@fdb.command(name="status")
@json_option()
@inventory_option
def fdb_status(as_json: bool, inventory: str) -> None:
    """The database on one screen, with every health gate; also while it is down.

    Exit code 0 if it is available and every gate is green, else 1. A database that does not answer is waited
    for, for half a minute.
    """
    from ops.fdb import status as body

    sys.exit(body.show(CHECKOUT, inventory, as_json=as_json))


@fdb.command()
@click.argument("version")
@click.option(
    "--rolling", is_flag=True, help="Zone by zone, that is host by host; the next when the cluster bears that."
)
@click.option(
    "--procedure",
    type=click.Choice(["auto", "patch", "minor"]),
    default="auto",
    show_default=True,
    help="auto: by the versions. minor is the longer one, for processes that do not talk to the older ones.",
)
@click.option(
    "--recovered-seconds",
    type=int,
    help="Refuse where the last recovery is less long ago.  [default: 600; in the lab 0]",
)
@click.option(
    "--cut-off", is_flag=True, help="Go on where clients outside the inventory would lose the database (minor)."
)
@dry_option
@lock_wait_option
@inventory_option
def upgrade(
    version: str,
    rolling: bool,
    procedure: str,
    recovered_seconds: int | None,
    cut_off: bool,
    dry: bool,
    inventory: str,
) -> None:
    """Bring the running cluster to VERSION, such as 7.3.78, under load.

    All of it is staged and tried out on every host before anything is switched. Then all processes restart
    at once, which costs one short recovery, while requests wait for it, for up to 3 s, instead of failing.
    """
    from ops.fdb import run

    data = {"fdb_version": version, "fdb_rolling": rolling, "fdb_procedure": procedure, "fdb_cut_off": cut_off}
    if recovered_seconds is not None:
        data["fdb_recovered_seconds"] = recovered_seconds
    run.run(CHECKOUT, inventory, "fdb_upgrade", data, dry=dry)


@fdb.command()
@click.argument("host")
@dry_option
@lock_wait_option
@inventory_option
def add(host: str, dry: bool, inventory: str) -> None:
    """HOST, bare until now, becomes a part of the database.

    The inventory has it in group fdb already.
    """
    from ops.fdb import members

    members.run(CHECKOUT, inventory, join=host, dry=dry)


@fdb.command()
@click.argument("host")
@dry_option
@lock_wait_option
@inventory_option
def remove(host: str, dry: bool, inventory: str) -> None:
    """HOST hands over what it holds, and is stopped.

    The inventory has it in group spare already. Also for a host that is lost: then its exclusion stays, so that it
    takes no part if it comes back.
    """
    from ops.fdb import members

    members.run(CHECKOUT, inventory, leave=host, dry=dry)


@fdb.command()
@click.argument("old")
@click.argument("new")
@dry_option
@lock_wait_option
@inventory_option
def replace(old: str, new: str, dry: bool, inventory: str) -> None:
    """NEW joins, then OLD leaves: under load, with nothing lost.

    The inventory has NEW in group fdb and OLD in group spare already. There are never fewer copies than
    fdb_redundancy asks for.
    """
    from ops.fdb import members

    members.run(CHECKOUT, inventory, join=new, leave=old, dry=dry)


@fdb.command()
@click.argument("hosts", nargs=-1, required=True, metavar="auto|HOST...")
@dry_option
@lock_wait_option
@inventory_option
def coordinators(hosts: tuple[str, ...], dry: bool, inventory: str) -> None:
    """Make these HOSTS the coordinators; auto: replace those that do not answer, keep the others."""
    from ops.fdb import members

    members.run(CHECKOUT, inventory, choose=hosts, dry=dry)


@fdb.group(cls=Griddle)
def backup() -> None:
    """The continuous backup, by agents on the metrics host, to fdb_backup_url."""


@backup.command()
@dry_option
@lock_wait_option
@inventory_option
def now(dry: bool, inventory: str) -> None:
    """Wait until all that has been acknowledged can be restored, and say the version and its time."""
    from ops.fdb import backup as body

    body.run(CHECKOUT, inventory, "now", dry=dry)


@backup.command(name="status")
@json_option()
@inventory_option
def backup_status(as_json: bool, inventory: str) -> None:
    """Whether it runs, where it is, to which version and time it can be restored, and how large it is."""
    from ops.fdb import backup as body

    body.status(CHECKOUT, inventory, as_json=as_json)


@backup.command()
@dry_option
@lock_wait_option
@inventory_option
def verify(dry: bool, inventory: str) -> None:
    """Restore the backup into a database of its own on the metrics host, and compare: byte for byte.

    The live database is read at one version, in one transaction, so it must be readable within 5 s.
    """
    from ops.fdb import backup as body

    body.run(CHECKOUT, inventory, "verify", dry=dry)


@fdb.command()
@click.option("--to-version", type=click.IntRange(1), metavar="VERSION", help="As `backup now` says it.")
@click.option(
    "--to-time", metavar="TIME", help="2026-05-17T14:03:00+02:00, or with Z for UTC; exact to about a minute."
)
@click.option("--replace", is_flag=True, help="Destroy what is in the database.")
@dry_option
@lock_wait_option
@inventory_option
def restore(to_version: int | None, to_time: str | None, replace: bool, dry: bool, inventory: str) -> None:
    """Bring back the database as it was at a version or a time.

    Refuses a database that holds anything, unless --replace. Meanwhile it is locked, and requests get 503;
    services go on by themselves. The running backup ends, and stays where it is; the next begins afterwards.
    """
    from ops.fdb import backup as body

    body.restore(CHECKOUT, inventory, to_version, to_time, replace=replace, dry=dry)
