"""The cluster's lock: one run at a time changes the cluster, be it an apply, an operation or `pki rotate`.

It is a lease on the hosts of group etcd, a file in /run that the run renews over SSH. So it ends by itself within
LEASE_SECONDS after its process, however that ended; and it needs no etcd, which the first apply has yet to make,
and which may be what is to be repaired. Hosts are asked in the inventory's order, and each that answers must grant
it: of two runs that begin together one is refused by the first host that both reach. It is held for as long as a
majority renews it; where fewer hosts answer from the start, that is said, and those count.

How a host is asked is the caller's: over pyinfra's connections (locking.py), or by OpenSSH (ops/lock.py).
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import shlex
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster.errors import Failure, UserError
from cluster.progress import say

FILE = "/run/griddle-operator"
LEASE_SECONDS = 15
RENEW_SECONDS = 4
END_SECONDS = 5  # for renewals that are under way when it is given back
# A run's children (the applies of `pki rotate`) are not another run: they find its token here.
VARIABLE = "GRIDDLE_LOCK"
WAIT_VARIABLE = "GRIDDLE_LOCK_WAIT"  # --lock-wait of ./griddle, for all that it starts

Document = Mapping[str, Any]  # "operation", "owner", "started", "process"
Ask = Callable[[str, str], list[str]]
"""Runs a script as root on a host: its output's lines. Raises Failure where that did not succeed."""


class Lock:
    """The lock as held. `check` raises once it is not held any more."""

    def __init__(self, ask: Ask, document: Document, token: str, granted: Mapping[str, float], of: int) -> None:
        """`granted`: {host: when it was asked}, of that many hosts."""
        self.document = document
        self._ask, self._token, self._renewed = ask, token, dict(granted)
        self._needed = min(len(granted), of // 2 + 1)
        self._lost = False
        self._ended = threading.Event()
        self._inherited = os.environ.get(VARIABLE) == token
        os.environ[VARIABLE] = token
        self._keepers = [threading.Thread(target=self._keep, args=(host,), daemon=True) for host in granted]
        for keeper in self._keepers:
            keeper.start()

    def check(self) -> None:
        """Raises Failure if the lease may have ended: another run may have begun."""
        alive = sum(now() - at < LEASE_SECONDS for at in self._renewed.values())
        # Once is for ever: a renewal that succeeds later says nothing of the time between.
        self._lost = self._lost or alive < self._needed
        if self._lost:
            raise Failure(
                f"the cluster's lock has ended: of {', '.join(self._renewed)} too few answered for "
                f"{LEASE_SECONDS} s, and another run may have begun. Run the same again"
            )

    def release(self) -> None:
        """Gives it back at once, if it is this process's own. What cannot be told ends by itself."""
        self._ended.set()
        end = now() + END_SECONDS
        for keeper in self._keepers:  # one that comes after it was given back would take it again
            keeper.join(max(0, end - now()))
        if self._inherited:
            return
        os.environ.pop(VARIABLE, None)
        for host in self._renewed:
            with suppress(Failure):
                self._ask(host, give_back(self._token))

    def _keep(self, host: str) -> None:
        said = ""
        while not self._ended.wait(RENEW_SECONDS):
            asked_at = now()
            try:
                if other := other_in(self._ask(host, take_over(self._token, self.document))):
                    raise Failure(held_by(other))
                self.check()
                self._renewed[host] = asked_at
                said = ""
            except Exception as problem:  # whatever it is, the next attempt may succeed
                if str(problem) != said and not self._ended.is_set():
                    say(f"lock: {host}: {problem}")
                said = str(problem)


def take(title: str, hosts: Sequence[str], ask: Ask, wait_seconds: float = 0) -> Lock:
    """Takes the lock, after waiting for whoever holds it.

    What a process of one's own on this machine has left that was killed is taken over.

    :param hosts: those of group etcd, in the inventory's order
    :raises UserError: another run holds it
    """
    token = os.environ.get(VARIABLE) or secrets.token_hex(8)
    document, over, end, told = _document(title), "", now() + wait_seconds, ""
    while True:
        granted, away, other = _ask_all(hosts, ask, token, document, over)
        if other is None:
            if away:
                say(f"lock: held on {len(granted)} of {len(hosts)} hosts of group etcd: {'; '.join(away)}")
            return Lock(ask, document, token, granted, len(hosts))
        over = other["token"] if _is_gone(other) else ""
        if over:
            continue
        if VARIABLE not in os.environ:
            for host in granted:
                with suppress(Failure):
                    ask(host, give_back(token))
        told = _wait(other, end, told)


def await_free(hosts: Sequence[str], ask: Ask, wait_seconds: float) -> None:
    """Returns when nobody else holds it. Raises UserError after that time."""
    end, told = now() + wait_seconds, ""
    while (other := seen(hosts, ask)) and not _is_gone(other):
        told = _wait(other, end, told)


def seen(hosts: Sequence[str], ask: Ask) -> Document | None:
    """The other run that holds it; None where no host that answers knows of one."""
    for host in hosts:
        with suppress(Failure):
            if other := other_in(ask(host, look(os.environ.get(VARIABLE, "")))):
                return other
    return None


def held_by(document: Document) -> str:
    """The line that refuses a second run."""
    return (
        f"another run is changing the cluster: {document.get('operation')}, by {document.get('owner')} since "
        f"{document.get('started')}; wait for its end: --lock-wait SECONDS, or pyinfra's --data lock_wait=SECONDS "
        f"(killed, it ends within {LEASE_SECONDS} s)"
    )


def wait_seconds() -> float:
    """How long to wait for another run to end, if the command line has not said it otherwise."""
    return float(os.environ.get(WAIT_VARIABLE) or 0)


def now() -> float:
    """Seconds that go on while this machine sleeps, as they do on the hosts."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def owner() -> str:
    """Who holds what this process takes."""
    return f"{getpass.getuser()}@{socket.gethostname()} (pid {os.getpid()})"


def _document(title: str) -> Document:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return {"operation": title, "owner": owner(), "started": started, "process": _process(os.getpid())}


def _process(pid: int) -> list[str]:
    """This boot and namespace, and the process in them, by when it began: a number alone is used again.

    :raises OSError: there is none, or it has ended and its parent has not looked yet
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if state in "ZX":
        raise ProcessLookupError(pid)
    return [boot, str(Path("/proc/self/ns/pid").readlink()), str(pid), fields[18]]  # proc(5): starttime


def _is_gone(document: Document) -> bool:
    """Whether it was taken on this machine by a process that is not there any more."""
    try:
        boot, namespace, pid, began = document.get("process") or ()
    except (TypeError, ValueError):
        return False
    if [boot, namespace] != _process(os.getpid())[:2]:
        return False
    try:
        return _process(int(pid)) != [boot, namespace, pid, began]
    except (OSError, ValueError):
        return True


def _ask_all(
    hosts: Sequence[str], ask: Ask, token: str, document: Document, over: str
) -> tuple[dict[str, float], list[str], Document | None]:
    """Who has granted it and when, who cannot be asked and why, and who holds it instead."""
    granted: dict[str, float] = {}
    away = []
    for host in hosts:
        asked_at = now()
        try:
            if other := other_in(ask(host, take_over(token, document, over))):
                return granted, away, other
        except Failure as problem:
            away.append(str(problem))
        else:
            granted[host] = asked_at
    return granted, away, None


def _wait(other: Document, end: float, told: str) -> str:
    """Waits a moment, and says once for whom."""
    if (left := end - now()) <= 0:
        raise UserError(held_by(other))
    if other["token"] != told:
        say(f"waiting up to {left:.0f} s for {other.get('operation')}, by {other.get('owner')}")
    time.sleep(min(1, left))
    return other["token"]


# --- what a host does: FILE holds "<uptime at which it ends> <token>", and the document


def take_over(token: str, document: Document, over: str = "") -> str:
    """A script that takes the lease or renews it; where another holds it, that one's is printed.

    :param over: the token of one that is replaced all the same
    """
    return "\n".join(
        [
            _READ,
            f'case $token in {token}|"{over}") ;; *) [ "$now" -ge "$ends" ] || {_SHOW} ;; esac',
            f'[ "$token" = {token} ] || document={shlex.quote(json.dumps(document))}',
            # A second more than the holder counts: both clocks are cut off to whole ones.
            f"printf '%s %s\\n%s\\n' $((now + {LEASE_SECONDS + 1})) {token} \"$document\" > {FILE}.new &&"
            f" mv -f {FILE}.new {FILE}",
        ]
    )


def give_back(token: str) -> str:
    """A script that ends this one's lease."""
    return f'{_READ}\n[ "$token" != {token} ] || rm -f {FILE}'


def look(token: str) -> str:
    """A script that prints the lease that another than `token` holds."""
    return f'{_READ}\n[ "$token" = "{token}" ] || [ "$now" -ge "$ends" ] || {_SHOW}'


_READ = f"""exec 8>{FILE}.guard; flock -w 3 8 || exit 1
now=$(cut -d. -f1 /proc/uptime); ends=0; token=; document=
[ ! -s {FILE} ] || {{ read -r ends token; read -r document; }} < {FILE}
case $ends in ""|*[!0-9]*) ends=0 ;; esac
[ "$ends" -le $((now + {LEASE_SECONDS + 1})) ] || ends=0"""
_SHOW = '{ printf "other %s\\n%s\\n" "$token" "$document"; exit 0; }'


def other_in(lines: Sequence[str]) -> dict[str, Any] | None:
    """The other's document with its token, in what such a script has printed; None: there is no other."""
    if not lines or not lines[0].startswith("other "):
        return None
    document: Any = None
    with suppress(ValueError):
        document = json.loads("\n".join(lines[1:]))
    return {**(document if isinstance(document, dict) else {}), "token": lines[0].removeprefix("other ")}
