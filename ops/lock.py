"""The cluster's lock (deploys/conductor/lock.py), for a command that is made of several applies: by OpenSSH."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cluster.errors import Failure
from cluster.model import Cluster
from deploys.conductor import lock
from deploys.framework import shell
from ops import hosts

_ASK_SECONDS = 10


@contextmanager
def held(cluster: Cluster, title: str) -> Iterator[lock.Lock]:
    """No other run changes the cluster meanwhile. Applies that this process starts are no other run: they find the
    lock in their environment. They must end with this process (`die_with_parent`).

    :raises UserError: another run holds it
    """
    members = {host.name: host for host in cluster.group("etcd")}

    def ask(name: str, script: str) -> list[str]:
        done = hosts.run(members[name], f"sudo {shell.command(script)}", _ASK_SECONDS)
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise Failure(f"{name}: the cluster's lock: {said or f'exit code {done.returncode}'}")
        return done.stdout.decode(errors="replace").splitlines()

    taken = lock.take(title, list(members), ask, lock.wait_seconds())
    try:
        yield taken
    finally:
        taken.release()
