"""A real sshd on loopback, as the user who runs the tests, and what a client needs to log in to it."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ops.process import die_with_parent
from tests.unit.stores import free_port, listens, wait_until

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")


def missing() -> str | None:
    return None if SSHD else "there is no sshd (Debian package openssh-server)"


@dataclass(frozen=True)
class Sshd:
    port: int
    key: Path
    log: Path
    """A line for each who has logged in."""


@contextlib.contextmanager
def sshd(directory: Path) -> Iterator[Sshd]:
    """One that takes our key alone, for as long as the block lasts."""
    made = Sshd(free_port(), directory / "key", directory / "sshd.log")
    for key in (made.key, directory / "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    (directory / "key.pub").rename(directory / "authorized_keys")
    Path("/run/sshd").mkdir(exist_ok=True) if os.geteuid() == 0 else None
    settings = {
        "ListenAddress": "127.0.0.1", "Port": made.port, "HostKey": directory / "host_key", "PidFile": "none",
        "AuthorizedKeysFile": directory / "authorized_keys", "StrictModes": "no", "UsePAM": "no",
        "PasswordAuthentication": "no", "LogLevel": "VERBOSE", "AllowTcpForwarding": "yes",
        "PermitRootLogin": "prohibit-password", "Subsystem": "sftp internal-sftp",
    }  # fmt: skip
    (directory / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    process = subprocess.Popen(
        [SSHD, "-D", "-f", directory / "sshd_config", "-E", made.log], preexec_fn=die_with_parent
    )
    try:
        wait_until("sshd listens", lambda: listens(made.port))
        yield made
    finally:
        process.terminate()
        process.wait(timeout=20)


def client_config(server: Sshd, directory: Path, **hosts: str) -> Path:
    """An ssh_config that knows such hosts: {alias: its own lines}."""
    text = "".join(f"Host {name}\n{lines}\n" for name, lines in hosts.items())
    common = (
        f"Host *\nUser {getpass.getuser()}\nIdentityFile {server.key}\nIdentitiesOnly yes\n"
        f"UserKnownHostsFile {directory / 'known_hosts'}\nStrictHostKeyChecking accept-new\n"
    )
    path = directory / "ssh_config"
    path.write_text(text + common)
    return path
