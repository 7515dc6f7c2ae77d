"""An inventory's hosts from the operator's side: who they are, and a command on one of them by SSH."""

from __future__ import annotations

import runpy
import socket
import subprocess
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cluster import model, ssh
from cluster.errors import UserError
from cluster.model import Cluster, Host
from cluster.paths import ROOT
from deploys.framework import shell

LAB = ROOT / "inventory" / "lab.py"
SSH_FAILED = 255  # the exit code that is ssh's own
ANSWER_SECONDS = 1.0  # a host that takes no connection in this time does not answer
BY_OTHERS = threading.Semaphore(8)  # one jump host takes 10 connections that have not yet logged in (MaxStartups)


def cluster(inventory: Path = LAB) -> Cluster:
    """The cluster of an inventory file, as pyinfra would read it. Raises UserError where there is none."""
    check_inventory(inventory)
    try:
        names = runpy.run_path(str(inventory))
    except SystemExit as error:  # it has refused itself, by a line of its own or by this one
        said = str(error.code).removeprefix("griddle: ") if isinstance(error.code, str) else "refused, see above"
        raise UserError(f"{inventory.name}: {said}") from None
    return model.from_file(inventory, names, {})


def check_inventory(inventory: Path) -> None:
    """Raises UserError where there is no such file."""
    if not inventory.is_file():
        raise UserError(f"there is no inventory {inventory}: --inventory takes a file such as inventory/prod.py")


def host(of: Cluster, name: str) -> Host:
    """One host; UserError names those that there are."""
    found = of.hosts.get(name)
    if found is None:
        raise UserError(f"no host {name} in cluster {of.name}: it has {', '.join(of.hosts)}")
    return found


def run(
    of: Host, script: str, seconds: float = 30, stdin: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """A shell script on a host, as the inventory's user. Exit code 255 is ssh's own: the host was not reached."""
    command = ["ssh", *ssh.options(of), ssh.target(of), shell.command(script)]
    given = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    try:
        return subprocess.run(command, capture_output=True, timeout=seconds, **given)
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(
            command, 255, error.stdout or b"", f"no answer in {seconds:.0f} s".encode()
        )


def answers(of: Host, seconds: float) -> bool:
    """Whether a host can be reached by SSH: its port takes a connection, where and as OpenSSH would make it.

    :param seconds: how long a connection by way of others (ProxyJump, ProxyCommand) may take: a whole login
    """
    asked = ["ssh", "-G", *ssh.options(of), ssh.target(of)]
    try:
        done = subprocess.run(
            asked, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ANSWER_SECONDS
        )
    except subprocess.TimeoutExpired:  # a configuration may run commands (Match exec)
        return False
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    if done.returncode or {"proxyjump", "proxycommand"} & found.keys():
        with BY_OTHERS:
            return run(of, "true", seconds).returncode != SSH_FAILED
    try:
        with socket.create_connection((found["hostname"], int(found["port"])), ANSWER_SECONDS):
            return True
    except OSError:
        return False


def start(of: Host, script: str) -> subprocess.Popen[str]:
    """A shell script on a host that goes on; its output is to be read from the process."""
    command = ["ssh", *ssh.options(of), ssh.target(of), shell.command(script)]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def run_on(hosts: Iterable[Host], script: str, seconds: float = 30) -> dict[str, str | None]:
    """{host: what the script printed} of all at once; None where it failed or the host was not reached."""
    hosts = list(hosts)
    with ThreadPoolExecutor(max(1, len(hosts))) as pool:
        done = pool.map(lambda each: run(each, script, seconds), hosts)
        return {
            each.name: result.stdout.decode(errors="replace") if result.returncode == 0 else None
            for each, result in zip(hosts, done, strict=True)
        }
