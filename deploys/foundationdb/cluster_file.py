"""The cluster file: who the coordinators are, and which database this is.

Servers and clients rewrite their run-time copies when coordinators change, so configuration management owns a
seed only: made once per cluster, kept on the operator's machine, laid beside the run-time file on each host.
(FoundationDB documentation, administration.rst, "Cluster files".)
"""

from __future__ import annotations

import re
import secrets
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import UserError
from cluster.files import locked, write_durably
from cluster.paths import CLUSTERS

_LINE = re.compile(r"(?P<description>[A-Za-z0-9_]+):(?P<id>[A-Za-z0-9]+)@(?P<coordinators>\S+)")
_ALPHABET = string.ascii_letters + string.digits


class ClusterFileError(UserError):
    """A cluster file that cannot be read, or hosts that belong to another database."""


@dataclass(frozen=True)
class ClusterFile:
    """`description:id@host:port,...`. The key (description:id) names one set of coordinators of one database:
    every change of coordinators makes another id.
    """

    description: str
    id: str
    coordinators: tuple[str, ...]

    @property
    def key(self) -> str:
        """description:id"""
        return f"{self.description}:{self.id}"

    def __str__(self) -> str:
        return f"{self.key}@{','.join(self.coordinators)}\n"


def parse(text: str, where: str) -> ClusterFile:
    """Read a cluster file's content; `where` is for the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    match = _LINE.fullmatch(lines[0]) if len(lines) == 1 else None
    if not match:
        raise ClusterFileError(f"{where}: not a cluster file (one line description:id@host:port,...)")
    return ClusterFile(match["description"], match["id"], tuple(match["coordinators"].split(",")))


def new(cluster_name: str, coordinators: tuple[str, ...]) -> ClusterFile:
    """A file for a database that does not exist yet."""
    identity = "".join(secrets.choice(_ALPHABET) for _ in range(32))
    return ClusterFile(re.sub(r"[^A-Za-z0-9]", "_", cluster_name), identity, coordinators)


def choose(
    kept: ClusterFile | None,
    seen: Mapping[str, Sequence[ClusterFile]],
    cluster_name: str,
    coordinators: tuple[str, ...],
    unknown: Sequence[str] = (),
) -> ClusterFile:
    """The seed for a cluster: the database's present cluster file, once there is a database.

    A host's seed is what the database was when the host was last applied to, its run-time file what it is now, so
    the two belong to one database whatever their keys are.

    :param kept: what the operator's machine has
    :param seen: {host: its run-time file and its seed, as far as it has them}
    :param coordinators: the addresses that the inventory gives
    :param unknown: FoundationDB hosts that could not be asked
    :raises ClusterFileError: hosts disagree about which database they belong to, or there may be one unknown here
    """
    hosts = {host: {file.key for file in files} for host, files in seen.items() if files}
    known = {kept.key} if kept else set(next(iter(hosts.values()), ()))
    while linked := [keys for keys in hosts.values() if keys & known and not keys <= known]:
        known = known.union(*linked)
    for host, keys in sorted(hosts.items()):
        if not keys & known and kept:
            raise ClusterFileError(
                f"{host} belongs to the database {min(keys)}, but {operator_path(cluster_name)} is for "
                f"{kept.key}: an old copy, or the wrong inventory? If the inventory is right, remove that file: "
                "the hosts' own is taken then"
            )
        if not keys & known:
            whose = ", ".join(f"{name} has {min(each)}" for name, each in sorted(hosts.items()))
            raise ClusterFileError(f"FoundationDB hosts belong to different databases: {whose}")
    if hosts:
        # A host that was off while coordinators changed knows the old ones only.
        ((present, _),) = Counter(files[0] for files in seen.values() if files).most_common(1)
        return kept if kept and kept.key == present.key else present
    if unknown and not kept:
        raise ClusterFileError(
            f"no host of this run knows cluster {cluster_name}'s database, and this machine does not, and not all "
            f"were asked ({', '.join(unknown)}): apply to all hosts"
        )
    # Where no host knows any database, none exists: addresses that moved since the file was made are of no use.
    if kept and (unknown or kept.coordinators == coordinators):
        return kept
    return new(cluster_name, coordinators)


def operator_path(cluster_name: str) -> Path:
    """Where the operator's machine keeps a cluster's seed."""
    return CLUSTERS / cluster_name / "fdb.cluster"


def read(path: Path) -> ClusterFile | None:
    """A cluster file of the operator's machine; None where there is none. Raises ClusterFileError."""
    return parse(path.read_text(), str(path)) if path.exists() else None


def write(path: Path, file: ClusterFile, instead_of: ClusterFile | None) -> None:
    """Keep a file on the operator's machine, atomically.

    :param instead_of: what was read there
    :raises UserError: another process has put another one there meanwhile
    """
    with locked(path.with_name("lock")):
        if read(path) not in (instead_of, file):
            raise UserError(f"another process has changed {path} meanwhile; run it again")
        write_durably(path, str(file), 0o644)
