"""`./griddle profile`."""

from __future__ import annotations

from pathlib import Path

import click

from ops.cli.options import CHECKOUT, inventory_option


@click.command()
@click.argument("host")
@click.option(
    "--unit",
    type=click.Choice(["front", "store", "feed", "proxy"]),
    required=True,
    help="A front, store worker or feed of an app host; proxy: nginx.",
)
@click.option(
    "--seconds", type=click.IntRange(1, 300), default=10, show_default=True, help="How long it is looked at."
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="profile.svg",
    show_default=True,
    help="The graph's file.",
)
@click.option("--worker", help="Which one, such as a-0.  [default: the busiest]")
@click.option("--native", is_flag=True, help="Functions of C libraries too; stops the process for longer.")
@inventory_option
def profile(
    host: str, unit: str, seconds: int, out: Path, worker: str | None, native: bool, inventory: str
) -> None:
    """Write a flame graph of what a process on HOST does, while it does it.

    py-spy samples the Python units, perf nginx. Nothing is restarted; what the profiler itself took is said.
    """
    from ops import profile as body

    body.profile(CHECKOUT / inventory, host, unit, seconds, out, worker, native=native)
