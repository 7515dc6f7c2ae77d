"""`./griddle release`: the commands of this group."""

from __future__ import annotations

import click

from ops.cli.options import Griddle


@click.group(cls=Griddle)
def release() -> None:
    """Releases: what runs on the app hosts, and the proxies' agent."""


@release.command()
def build() -> None:
    """Build this checkout's services into .griddle/releases/<version>, in a clean Debian container.

    The version is the hash of what went in: the same content is built once.
    """
    from ops.release import build as body

    body.build()
