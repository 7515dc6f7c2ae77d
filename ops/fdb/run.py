"""Runs an operation's deploy by pyinfra, and turns its end into the command line's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster import ssh
from cluster.errors import Failure, UserError
from cluster.model import Cluster
from cluster.progress import say
from ops import hosts
from ops.process import die_with_parent, pyinfra


def lost(cluster: Cluster, groups: Sequence[str] = ("fdb", "spare")) -> list[str]:
    """Names of these groups' hosts that SSH does not reach, each said in a line: they take no part."""
    answers = hosts.run_on(cluster.groups(groups), "true", ssh.CONNECT_SECONDS + 5)
    found = [name for name, answer in answers.items() if answer is None]
    for name in found:
        say(f"{name} does not answer by SSH: it takes no part")
    return found


def without(names: Iterable[str]) -> list[str]:
    """pyinfra's options that leave hosts out."""
    return [word for name in names for word in ("--exclude", name)]


def run(
    checkout: Path,
    inventory: str,
    deploy: str,
    data: Mapping[str, Any],
    *,
    dry: bool = False,
    options: Sequence[str] = (),
) -> None:
    """Run deploys/`deploy`.py, see `ops.process.pyinfra`. Its output is the progress, so all of it goes to stderr.

    :raises UserError: it was refused; nothing was changed
    :raises Failure: it failed on its way
    """
    hosts.check_inventory(checkout / inventory)
    # An operation must not go on without whoever waits for it: its lock would end while it still acts.
    code = subprocess.run(
        pyinfra(inventory, deploy, data, dry=dry, options=options),
        cwd=checkout,
        stdout=sys.stderr.fileno(),
        preexec_fn=die_with_parent,
    ).returncode
    if code == UserError.exit_code:
        raise UserError("refused, as said above; nothing was changed")
    if code:
        raise Failure("stopped, as said above; the same command goes on from there")
