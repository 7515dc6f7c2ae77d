"""`./griddle lab`: the commands of this group."""

from __future__ import annotations

import sys

import click

from ops.cli.options import CHECKOUT, Griddle, json_option


@click.group(cls=Griddle)
def lab() -> None:
    """The lab's hosts: look at them, enter them, take them away and bring them back."""


@lab.command()
@json_option()
def status(as_json: bool) -> None:
    """What each host is and does, found by looking: running, booting, cut, stopped or absent."""
    from ops import lab as body

    body.print_status(CHECKOUT, as_json=as_json)


@lab.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("host")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(host: str, command: tuple[str, ...]) -> None:
    """Open a shell on HOST, or run COMMAND there, as the deploy user (sudo asks for nothing)."""
    from ops import lab as body

    sys.exit(body.ssh(CHECKOUT, host, command))


def _host_command(verb: str, text: str) -> None:
    """The four commands that do one thing to hosts, and nothing else."""

    @lab.command(name=verb, help=text)
    @click.argument("hosts", nargs=-1, required=True, metavar="HOST...")
    def command(hosts: tuple[str, ...]) -> None:
        from ops import lab as body

        body.act(CHECKOUT, verb, hosts)


_host_command("stop", "Cut HOST's power: every process dies at once, nothing is told. Its disk stays.")
_host_command("start", "Power HOST on again, and wait until it answers.")
_host_command("cut", "Take HOST off the network: it runs on, and no packet reaches it or leaves it.")
_host_command("heal", "Put HOST back on the network.")


@lab.command()
@click.argument("host")
@click.argument("group", type=click.Choice(["fdb", "spare", "etcd", "no-etcd"]))
def move(host: str, group: str) -> None:
    """Put HOST into GROUP of the lab's inventory, as one would edit inventory/prod.py; no-etcd: out of group etcd.

    fdb6 to fdb9 and etcd1 to etcd5 are booted first. Nothing is deployed: `./griddle fdb add`, `replace` and
    `remove`, and those of `./griddle etcd`, make the stores follow.
    """
    from ops import lab as body

    body.move(CHECKOUT, host, group)
