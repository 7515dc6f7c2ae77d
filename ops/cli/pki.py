"""`./griddle pki`: the commands of this group."""

from __future__ import annotations

from pathlib import Path

import click

from ops.cli.options import Griddle, lock_wait_option


@click.group(cls=Griddle)
def pki() -> None:
    """The cluster's own certificate authority, under .griddle/clusters (never in git)."""


@pki.command()
@click.argument("cluster", default="lab")
def show(cluster: str) -> None:
    """Certificates of CLUSTER (default: lab): whose they are and when they end."""
    from ops import pki as body

    body.show(cluster)


@pki.command()
@click.argument("cluster", default="lab")
@lock_wait_option
def rotate(cluster: str) -> None:
    """Replace the CA and all certificates of the running CLUSTER (default: lab).

    Three applies of inventory/CLUSTER.py: trust the new CA everywhere, issue by it, forget the old one.
    Interrupted, the same command goes on with the step that was not finished.
    """
    from ops import pki as body

    body.rotate(cluster)


_passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Else the environment's GRIDDLE_PASSPHRASE, else it is asked for.",
)


@pki.command()
@click.argument("cluster")
@click.argument("file")
@_passphrase_option
def export(cluster: str, file: str, passphrase_file: Path | None) -> None:
    """Copy CLUSTER's CA into FILE, sealed with a passphrase, for another operator's machine.

    FILE may lie in git. `-` writes it plain to a pipe: into age, sops, `vault kv put`.
    """
    from ops import pki as body

    body.export(cluster, file, passphrase_file)


@pki.command(name="import")
@click.argument("file")
@_passphrase_option
def import_(file: str, passphrase_file: Path | None) -> None:
    """Take a CA from FILE, as `export` has written it; `-` reads it from a pipe.

    Whole or not at all, and only where this machine has none of that cluster, or an older one.
    """
    from ops import pki as body

    body.import_(file, passphrase_file)
