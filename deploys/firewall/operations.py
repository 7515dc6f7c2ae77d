"""The table of nftables, replaced in such a way that its operator is never shut out."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Generator

import gevent
from pyinfra import host, logger
from pyinfra.api import FactBase, OperationError, StringCommand, operation
from pyinfra.api.host import Host
from pyinfra.context import ctx_host

from cluster import model
from deploys.firewall import config
from deploys.framework import preview, shell
from deploys.framework.changes import Change
from deploys.framework.operations import checked
from deploys.framework.shell import exclusive
from deploys.framework.tree import File, differing

UNDO_SECONDS = 30  # after which a host puts the former rules back by itself
NEW_CONNECTION_SECONDS = 8  # for one attempt; there are two before the time is over
LOAD_SECONDS = 10


class Look(FactBase[list[str]]):
    """Lines of `griddle-firewall look`."""

    default = list

    def command(self) -> str:
        return f"[ ! -x {config.PROGRAM} ] || {config.PROGRAM} look"

    def process(self, output: list[str]) -> list[str]:
        return output


class DebiansConfIsOurs(FactBase[bool]):
    """Whether /etc/nftables.conf is what an earlier Griddle made of it."""

    default = bool

    def command(self) -> str:
        return f"grep -qs 'Written by Griddle (deploys/firewall)' {config.DEBIANS_CONF} && echo ours || true"

    def process(self, output: list[str]) -> bool:
        return "ours" in output


@operation()
def ruleset_in_force(ruleset: str) -> Generator[StringCommand]:
    """The ruleset is in force and loaded at boot, and lets a new connection of the operator's in.

    + ruleset: the whole table, as nft reads it
    """
    look = host.get_fact(Look)
    if config.in_force(look, ruleset):
        host.noop("the ruleset is in force")
        return
    this: Host = ctx_host.get()
    by_ssh = model.cluster().reached_by_ssh
    wanted, seen = {config.KEPT: File(ruleset)}, config.kept(look)
    preview.bring("file", wanted)
    preview.note_files(wanted, differing(wanted, seen), seen)
    preview.note(Change("command", "load", "the ruleset"))
    yield StringCommand("true")  # a dry run ends here
    token = secrets.token_hex(8)
    _load(this, ruleset, token)
    problem = _confirm(this, token) if by_ssh else _ask(this, f"{config.PROGRAM} keep {token}", LOAD_SECONDS)
    if problem:
        left = _ask(this, f"{config.PROGRAM} undo", LOAD_SECONDS)
        now = f"will be in force again within {UNDO_SECONDS} s" if left else "are in force again"
        raise OperationError(
            f"{host.name}: no new SSH connection came through the new rules ({problem}); the former ones {now}"
        )


@operation()
def debians_conf_left_alone() -> Generator[StringCommand]:
    """/etc/nftables.conf is the host's own again, where it held our table.

    What it was before that nobody knows: it becomes empty, and its unit is off, as Debian installs it.
    """
    if not host.get_fact(DebiansConfIsOurs):
        host.noop("it is not ours")
        return
    preview.note(
        Change("file", "change", config.DEBIANS_CONF, ("it holds the table of an earlier Griddle",)),
        Change("unit", "disable", "nftables.service", ("it is not stopped",)),
    )
    ours = f"{config.KEPT} ({config.UNIT})"
    text = f"#!/usr/sbin/nft -f\n# This host's own rules, loaded by nftables.service. Griddle's are in {ours}.\n"
    script = [
        "set -eu",
        f"printf %s {shlex.quote(text)} > {config.DEBIANS_CONF}.griddle-new",
        f"chmod 755 {config.DEBIANS_CONF}.griddle-new",
        "systemctl disable --quiet nftables.service",  # not stopped: it would flush every table
        "rm -f /var/lib/griddle/applied/nftables.service",
        f"mv -f {config.DEBIANS_CONF}.griddle-new {config.DEBIANS_CONF}",
    ]
    yield from checked("\n".join(script), "/etc/nftables.conf")


def _load(this: Host, ruleset: str, token: str) -> None:
    """The rules are in force, for the time being."""
    script = exclusive(f"printf %s {shlex.quote(ruleset)} | {config.PROGRAM} try {token} {UNDO_SECONDS}")
    if problem := _ask(this, script, LOAD_SECONDS + UNDO_SECONDS):
        raise OperationError(f"{host.name}: the ruleset was not loaded, or cut this connection: {problem}")


def _confirm(this: Host, token: str) -> str:
    """Keeps the rules by a new connection; the one that there is passes any rules. What went wrong, or ""."""
    end, problem = time.monotonic() + UNDO_SECONDS / 2, ""
    while time.monotonic() < end:
        connector = this.connector_cls(this.state, this)
        try:
            with gevent.Timeout(NEW_CONNECTION_SECONDS):
                connector.connect()
                return _said(connector.run_shell_command(_as_root(f"{config.PROGRAM} keep {token}"), _sudo=True))
        except (Exception, gevent.Timeout) as error:  # of paramiko, the socket, pyinfra
            problem = f"no answer within {error}" if isinstance(error, gevent.Timeout) else str(error)
            logger.info(f"{this.print_prefix}a new connection: {problem}")
        finally:
            if client := getattr(connector, "client", None):
                client.close()
        gevent.sleep(1)
    return problem


def _ask(this: Host, script: str, seconds: int) -> str:
    """Runs a script as root over the run's own connection, which may be dead by then. What went wrong, or ""."""
    try:
        with gevent.Timeout(seconds):
            return _said(this.run_shell_command(_as_root(script), _sudo=True))
    except (Exception, gevent.Timeout) as error:
        return f"no answer within {error}" if isinstance(error, gevent.Timeout) else str(error)


def _as_root(script: str) -> StringCommand:
    return StringCommand(shell.command(script))


def _said(done: tuple) -> str:
    ok, output = done
    return "" if ok else (" / ".join(filter(None, map(str.strip, output.output.splitlines()))) or "no output")
