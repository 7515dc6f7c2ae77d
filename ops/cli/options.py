"""What the command line's files share: the order of commands, and options that many commands have."""

from __future__ import annotations

import os
from collections.abc import Callable

import click

from cluster.paths import ROOT
from deploys.conductor import lock

CHECKOUT = ROOT


class Griddle(click.Group):
    """Lists commands in the order in which one meets them, not by the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


inventory_option = click.option(
    "--inventory",
    default="inventory/lab.py",
    show_default=True,
    metavar="FILE",
    help="Which cluster: inventory/prod.py, or another.",
)
dry_option = click.option("--dry", is_flag=True, help="Print the plan; change nothing.")


def _wait_for_the_lock(context: click.Context, parameter: click.Parameter, seconds: int) -> None:
    if seconds:
        os.environ[lock.WAIT_VARIABLE] = str(seconds)


lock_wait_option = click.option(
    "--lock-wait",
    type=click.IntRange(0, 86_400),
    default=0,
    metavar="SECONDS",
    expose_value=False,
    callback=_wait_for_the_lock,
    help="Wait so long for another run to end, instead of being refused at once.",
)


def json_option(more: str = "") -> Callable:
    """`--json`; `more` is added to its help."""
    return click.option("--json", "as_json", is_flag=True, help=f"One JSON document on stdout{more}.")
