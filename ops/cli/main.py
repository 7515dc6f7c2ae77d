"""The command line: `./griddle`. A file for each group of commands; what one does is imported when it is run."""

from __future__ import annotations

import sys

import click

from cluster.errors import Failure, UserError
from ops.cli.bench import bench, capacity
from ops.cli.etcd import etcd
from ops.cli.fdb import fdb
from ops.cli.lab import lab
from ops.cli.options import CHECKOUT, Griddle, inventory_option, json_option
from ops.cli.pki import pki
from ops.cli.profile import profile
from ops.cli.release import release

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
INTERRUPTED = 130


@click.group(cls=Griddle, context_settings=CONTEXT)
def griddle() -> None:
    """A whole low-latency cluster from one repo: on your own hosts, or here as a lab of containers.

    Your own hosts are deployed by pyinfra itself (README.md); the commands with --inventory work on them, too.

    \b
    Exit codes: 0 done, 1 something failed while running, 2 something to correct in what was given,
    130 interrupted. After an interruption the same command goes on where it stopped.
    """


@griddle.command()
@click.option(
    "--store",
    type=click.Choice(["auto", "fdb", "etcd"]),
    default="auto",
    show_default=True,
    help="The store. auto: FoundationDB where its packages can be had, else the etcd that is there anyway.",
)
@click.option("--bare", is_flag=True, help="Boot the hosts and stop there: nothing is deployed.")
def up(store: str, bare: bool) -> None:
    """Boot the lab, deploy the cluster onto it, load data, and read some by either lane.

    Eleven Debian hosts as systemd containers (six without FoundationDB), deployed over SSH by
    `pyinfra inventory/lab.py deploys/all.py`. On a running lab this deploys what changed, or says
    that nothing did. Needs root for the containers: asks sudo once if you are not root.
    """
    from ops import up as body

    body.up(CHECKOUT, store=store, bare=bare)


@griddle.command()
def down() -> None:
    """Remove the lab: containers, mounts, network, its hosts' disks and secrets. Also after a crash.

    What stays is what costs time to make again: the base image and the release.
    """
    from ops import lab

    lab.down(CHECKOUT)


@griddle.command(name="status")
@inventory_option
@click.option(
    "--wait",
    type=click.FloatRange(0.5, 60),
    default=2.4,
    show_default=True,
    metavar="SECONDS",
    help="How long the metrics host may take: more for one that is far away or overloaded.",
)
@json_option()
def cluster_status(inventory: str, as_json: bool, wait: float) -> None:
    """The cluster on one screen: the promise, hosts, versions, releases, gates, what was done last.

    Unless told to wait longer it answers in under three seconds, also with hosts down. Everything but which hosts
    answer comes from the metrics host; without it the exit code is 1, and the hosts are shown all the same.
    """
    from ops import status as body

    body.status(CHECKOUT / inventory, as_json, wait)


@griddle.command()
@click.option("--inventory", metavar="FILE", help="Add this cluster's own values: inventory/prod.py, or another.")
@json_option()
def data(inventory: str | None, as_json: bool) -> None:
    """Every key of the data: what it takes, its default, its meaning; with --inventory also a cluster's values.

    docs/data.md is the same. What does not fit is refused before any host is touched.
    """
    from ops import data as body

    body.show(CHECKOUT / inventory if inventory else None, as_json=as_json)


@griddle.command()
@click.option(
    "--port",
    type=click.IntRange(1024, 65533),
    default=8080,
    show_default=True,
    help="nginx's port; the front and the store worker take the two after it.",
)
def dev(port: int) -> None:
    """Run the services on loopback, restarted when their code changes.

    nginx, a front, a feed and a store worker, one process each; the store is in memory. No root, no containers;
    Ctrl-C ends it.
    """
    from ops import dev as body

    body.dev(port)


@griddle.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PYTEST ARGUMENTS]")
def test(arguments: tuple[str, ...]) -> None:
    """Run the tests: unit, plan (pyinfra on fake hosts) and lab (real containers).

    Lab tests are skipped, by name and with the reason, where containers cannot run. Without paths
    among the arguments everything runs; `./griddle test tests/unit -k plan` runs a part. --long adds the proofs
    that take minutes each; --no-skip fails where a test was skipped.
    """
    from ops import testing

    sys.exit(testing.run(CHECKOUT, arguments))


for each in (bench, capacity, profile, lab, fdb, etcd, release, pki):
    griddle.add_command(each)


def main() -> int:
    try:
        griddle.main(prog_name="griddle", standalone_mode=False)
    except (UserError, Failure) as error:
        click.echo(f"griddle: {error}", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("griddle: interrupted; the same command goes on from here", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
