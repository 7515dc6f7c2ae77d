"""What a lab keeps under `.griddle/lab`, and who may change it.

Nothing here says what runs: that is found by looking (`machine.py`, `network.py`). Remembered is only what cannot
be seen: which store the lab was made for, which subnet it was given, which image its hosts' disks lie upon.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cluster.errors import Failure
from ops.lab.plan import LabPlan, lab_plan


@dataclass(frozen=True)
class Lab:
    """`.griddle/lab/lab.json`: store is fdb or etcd; image is the base image's hash; moved is {host: its group},
    of hosts that are elsewhere than in a new lab.
    """

    store: str
    candidate: int
    image: str
    ip_forward_was: str
    moved: dict[str, str] = field(default_factory=dict)

    def plan(self, checkout: Path) -> LabPlan:
        return lab_plan(checkout, self.store == "fdb", self.candidate, self.moved)


class LabFiles:
    """Where the lab of one checkout keeps its files."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self.griddle = checkout / ".griddle"
        self.directory = self.griddle / "lab"
        self.description = self.directory / "lab.json"
        self.hosts = self.directory / "hosts"
        self.ssh = self.directory / "ssh"
        self.key = self.ssh / "id_ed25519"
        self.known_hosts = self.ssh / "known_hosts"
        self.stamp = self.directory / "deployed.json"
        self.lock = self.griddle / "lab.lock"

    def host(self, name: str) -> Path:
        """Holds the host's `upper` and `work` (its disk), `root` (where it is mounted) and console.log."""
        return self.hosts / name


def read(checkout: Path) -> Lab | None:
    """The checkout's lab; None where it has none."""
    try:
        return Lab(**json.loads(LabFiles(checkout).description.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        where = LabFiles(checkout).description
        raise Failure(f"{where} cannot be read ({error}): ./griddle down, then ./griddle up") from error


def plan(checkout: Path) -> LabPlan | None:
    """The plan of the checkout's lab as it was made; None where it has none."""
    lab = read(checkout)
    return lab and lab.plan(checkout)


def write(checkout: Path, lab: Lab) -> None:
    """Remember the lab."""
    write_atomically(LabFiles(checkout).description, json.dumps(asdict(lab), indent=2) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """A reader sees the old file or the new one. Readable by everybody."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.chmod(0o644)
    new.replace(path)


def give_to_owner(files: LabFiles) -> None:
    """Under sudo: what root has made here becomes the checkout's owner's, but for the hosts' disks."""
    owner = files.checkout.stat()
    for path in (files.griddle, files.directory, files.description, files.ssh, *files.ssh.iterdir()):
        shutil.chown(path, owner.st_uid, owner.st_gid)


@contextlib.contextmanager
def locked(checkout: Path, verb: str) -> Iterator[None]:
    """Keeps two `up` or `down` on one checkout apart; says who holds it otherwise.

    The kernel lets go of the lock when its holder ends, however it ends.
    """
    path = LabFiles(checkout).lock
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another griddle"
            raise Failure(f"{holder} is at work on this checkout's lab: wait for it, or end it") from None
        file.truncate(0)
        file.write(f"`griddle {verb}` (process {os.getpid()})\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
