"""Whoever applies gets in again afterwards: what a host knows of the connection that a run comes by."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable

from pyinfra import host
from pyinfra.api import FactBase, StringCommand

from cluster import model
from cluster.progress import say
from deploys.framework import shell
from deploys.framework.refusal import end_refused

# A certificate's line ends with its issuer: "ED25519-CERT SHA256:... ID me (serial 0) CA ED25519 SHA256:...".
_ACCEPTED = re.compile(r"Accepted publickey for \S+ from (\S+) port (\d+) ssh2: \S+ (SHA256:\S+)(?! ID )(?!\S)")


class Logins(FactBase[list[str]]):
    """The newest lines of sshd's log that say who logged in, and by which key."""

    default = list

    def command(self) -> str:
        return "journalctl -q -o cat -n 5000 -t sshd -t sshd-session | grep 'Accepted publickey' || true"

    def process(self, output: list[str]) -> list[str]:
        return output


def connection() -> str:
    """$SSH_CONNECTION of this run's connection: address and port that it comes from (of the last jump host, where
    there is one), address and port that it came to. "" where the host's sshd does not say.
    """
    # as the user who logged in: sudo takes it away
    ok, output = host.run_shell_command(StringCommand(shell.command('echo "$SSH_CONNECTION"')))
    return output.stdout.strip() if ok else ""


def fingerprint(key: str) -> str:
    """Of a line of authorized_keys, as sshd's log has it."""
    blob = re.search(r"(?:^| )AAAA\S*", key)
    digest = hashlib.sha256(base64.b64decode(blob[0])).digest() if blob else b""
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def key_lost(logins: Iterable[str], of: str, keys: Iterable[str]) -> str:
    """The fingerprint of the key that a connection was made with, where `keys` do not hold it.

    "" where they do, or where the log says nothing of it (it was a certificate, or the log is gone).

    :param of: $SSH_CONNECTION
    """
    peer = of.split()[:2]
    used = [found[3] for line in logins if (found := _ACCEPTED.search(line)) and [found[1], found[2]] == peer]
    return used[-1] if used and used[-1] not in map(fingerprint, keys) else ""


def refuse(reason: str) -> None:
    """Called while a run is prepared: nothing was changed on any host. Ends the process with exit code 2."""
    say(f"griddle: {host.name}: {reason}; nothing was changed")
    end_refused()


def require_own_key(keys: Iterable[str]) -> None:
    """Refuses a run that would take away the key which it comes by.

    :param keys: all lines that the deploy user's authorized_keys will have
    """
    if model.cluster().reached_by_ssh and (lost := key_lost(host.get_fact(Logins), connection(), keys)):
        refuse(f"this run's own key, {lost}, is not in base_deploy_keys, and would not get in again")


def require_own_connection(shut_out: Callable[[str], str]) -> None:
    """Refuses a run that would close the way which it comes by.

    :param shut_out: why a connection, as $SSH_CONNECTION has it, would not get in any more; "" if it would
    """
    if model.cluster().reached_by_ssh and (reason := shut_out(connection())):
        refuse(reason)
