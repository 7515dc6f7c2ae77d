"""`./griddle etcd`: the commands of this group."""

from __future__ import annotations

import sys

import click

from ops.cli_options import CHECKOUT, Griddle, inventory_option, json_option


@click.group(cls=Griddle)
def etcd() -> None:
    """etcd on the running cluster: its members, and what they hold."""


@etcd.command()
@json_option()
@inventory_option
def status(as_json: bool, inventory: str) -> None:
    """Members, leader, revision, size, quota and alarms on one screen; also while etcd or hosts are down.

    Exit code 0 if every host of group etcd is a member that serves, in one cluster, without an alarm; else 1.
    """
    from ops.etcd import status as body

    sys.exit(body.show(CHECKOUT, inventory, as_json=as_json))
