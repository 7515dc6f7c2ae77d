"""`./griddle etcd`: the commands of this group."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ops.cli.options import CHECKOUT, Griddle, dry_option, inventory_option, json_option, lock_wait_option


@click.group(cls=Griddle)
def etcd() -> None:
    """etcd on the running cluster. What changes it is a deploy (deploys/etcd_*.py), under the cluster's lock.

    The inventory says who the members shall be, these commands make it so; an apply never does. Interrupted or
    killed, the same command goes on where it stopped. --dry prints the plan and changes nothing. What an operation
    did is saved under results/operations/.
    """


@etcd.command()
@json_option()
@inventory_option
def status(as_json: bool, inventory: str) -> None:
    """Members, leader, revision, size, quota and alarms on one screen; also while etcd or hosts are down.

    Exit code 0 if every host of group etcd is a member that serves, in one cluster, without an alarm; else 1.
    """
    from ops.etcd import status as body

    sys.exit(body.show(CHECKOUT, inventory, as_json=as_json))


_hosts_argument = click.argument("hosts", nargs=-1, required=True, metavar="HOST...")


@etcd.command()
@_hosts_argument
@dry_option
@inventory_option
def add(hosts: tuple[str, ...], dry: bool, inventory: str) -> None:
    """HOSTs, bare until now, become members, one after another.

    The inventory has them in group etcd already.
    """
    from ops.etcd import members

    members.run(CHECKOUT, inventory, join=hosts, dry=dry)


@etcd.command()
@_hosts_argument
@dry_option
@inventory_option
def remove(hosts: tuple[str, ...], dry: bool, inventory: str) -> None:
    """HOSTs are members no more, and etcd is stopped there; its last data stays in /var/lib/etcd-aside.

    The inventory does not have them in group etcd any more. Also for members that are lost, and once more when
    one of them comes back.
    """
    from ops.etcd import members

    members.run(CHECKOUT, inventory, leave=hosts, dry=dry)


@etcd.command()
@click.argument("old")
@click.argument("new")
@dry_option
@inventory_option
def replace(old: str, new: str, dry: bool, inventory: str) -> None:
    """NEW becomes a member in the place of OLD: under load, with nothing lost.

    The inventory has NEW in group etcd and OLD not any more. NEW learns first and votes then, so a majority is
    never less than before. OLD OLD: the same host, which has lost its disk.
    """
    from ops.etcd import members

    members.run(CHECKOUT, inventory, join=(new,), leave=(old,), dry=dry)


@etcd.command()
@click.option(
    "--to", "directory", type=click.Path(file_okay=False, path_type=Path), help="Also bring it here, to DIRECTORY."
)
@inventory_option
def snapshot(directory: Path | None, inventory: str) -> None:
    """Take a snapshot now, verified, on a member with a majority; say where it is."""
    from ops.etcd import snapshots

    snapshots.take(CHECKOUT, inventory, directory)


@etcd.command()
@click.option("--from", "wanted", metavar="HOST:PATH", help="This copy, instead of what has come farthest.")
@dry_option
@inventory_option
def restore(wanted: str | None, dry: bool, inventory: str) -> None:
    """Bring etcd back after a majority of its members is lost for good.

    Of what the members that are left hold, and of the snapshots on all hosts, what has come farthest becomes the
    data of every host in group etcd; lost hosts are replaced in the inventory first. What a host had is put aside,
    in /var/lib/etcd-aside. Refused as long as a majority is there, or may be.
    """
    from ops.etcd import snapshots

    snapshots.restore(CHECKOUT, inventory, wanted or "", dry=dry)


@etcd.command()
@dry_option
@inventory_option
@lock_wait_option
def compact(dry: bool, inventory: str) -> None:
    """Forget the history of every key, but for the last seconds. etcd does so by itself each hour.

    What is forgotten is used again for what is written next; `defragment` gives it back.
    """
    from ops.etcd import upkeep

    upkeep.compact(CHECKOUT, inventory, dry=dry)


@etcd.command()
@dry_option
@inventory_option
@lock_wait_option
def defragment(dry: bool, inventory: str) -> None:
    """Shrink each member's file to what is in use, one member after another.

    A member stands still meanwhile, so all must serve before the next one is touched, and the leader hands over
    first.
    """
    from ops.etcd import upkeep

    upkeep.defragment(CHECKOUT, inventory, dry=dry)


@etcd.command()
@dry_option
@inventory_option
@lock_wait_option
def disarm(dry: bool, inventory: str) -> None:
    """Take back alarms (NOSPACE), so that etcd takes writes again. Refused as long as there is no room.

    Room is made by `compact` and `defragment`, or by a larger etcd_quota_bytes and an apply.
    """
    from ops.etcd import upkeep

    upkeep.disarm(CHECKOUT, inventory, dry=dry)
