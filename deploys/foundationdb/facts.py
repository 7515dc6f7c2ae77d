"""What a host has of FoundationDB, and what the cluster says of itself: one command each."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pyinfra.api import FactBase

from deploys.foundationdb import config, status
from deploys.foundationdb.config import STATUS_SECONDS, fdbcli


@dataclass(frozen=True)
class Installed:
    """One host's releases, cluster files (first lines; empty where there is none) and data.

    :param releases: {version: names of the packages unpacked in its directory}
    :param current: the version that the `current` link names
    :param configured: the version in foundationdb.conf's command; empty on a client
    :param has_database: a process of this host has been part of a database that was created; it writes the
        file clusterId then
    """

    releases: dict[str, frozenset[str]] = field(default_factory=dict)
    current: str = ""
    configured: str = ""
    has_user: bool = False
    seed: str = ""
    cluster_file: str = ""
    has_database: bool = False


# A shell's condition: every file of the release that $f lists the packages of has the size it was unpacked with.
# One that an earlier Griddle unpacked has no list of sizes.
WHOLE = (
    "(cd ${f%/packages} && { [ ! -e sizes ] || { [ -s sizes ] && "
    "stat -c '%s %n' $(cut -d' ' -f2 sizes) 2>/dev/null | cmp -s - sizes; }; })"
)


class Installation(FactBase[Installed]):
    """The state of /opt/foundationdb, the user, and this host's cluster files."""

    default = Installed

    def command(self, cluster_file: str = config.CLUSTER_FILE, seed: str = config.SEED) -> str:
        return (
            f'for f in {config.RELEASES}/[0-9]*/packages; do [ -f "$f" ] && {WHOLE} && '
            'echo "release $f $(cat "$f")"; done; '
            f'echo "current $(readlink {config.CURRENT})"; '
            f"sed -n 's|^command = {config.RELEASES}/\\([^/]*\\)/.*|configured \\1|p' {config.CONF} 2>/dev/null; "
            "getent passwd foundationdb >/dev/null && echo user; "
            f"ls {config.DATA}/data/*/clusterId {config.DATA}/data/*/storage-* 2>/dev/null | grep -qm1 . "
            "&& echo database; "
            f'echo "seed $(grep -sv ^# {seed})"; echo "file $(grep -sv ^# {cluster_file})"; true'
        )

    def process(self, output: list[str]) -> Installed:
        releases, values, flags = {}, {}, set()
        for line in output:
            kind, _, rest = line.strip().partition(" ")
            if kind == "release":
                path, *names = rest.split()
                releases[path.split("/")[-2]] = frozenset(names)
            elif kind in ("user", "database"):
                flags.add(kind)
            else:
                values[kind] = rest.strip()
        return Installed(
            releases=releases,
            current=_version(values.get("current", "")),
            configured=_version(values.get("configured", "")),
            has_user="user" in flags,
            seed=values.get("seed", ""),
            cluster_file=values.get("file", ""),
            has_database="database" in flags,
        )


def _version(link: str) -> str:
    """The version that a path ends with; empty where it is none, as of what somebody has made by hand."""
    name = link.rstrip("/").rpartition("/")[2]
    return name if re.fullmatch(r"\d+(\.\d+)+", name) else ""


class Status(FactBase[status.Document | None]):
    """`status json`, as the cluster's own user; None where no client is installed or it gives no document."""

    def command(self, cluster_file: str = config.CLUSTER_FILE) -> str:
        return status_command(cluster_file)

    def process(self, output: list[str]) -> status.Document | None:
        return status.parse("\n".join(output))


def status_command(
    cluster_file: str = config.CLUSTER_FILE, seconds: int = STATUS_SECONDS, version: str = ""
) -> str:
    """A shell command: `status json`, given up after `seconds`; prints nothing where there is no cluster file.

    :param version: of the fdbcli that asks; empty: the one that the servers understand
    """
    ask = fdbcli("status json", cluster_file, seconds, version)
    return f"[ -s {cluster_file} ] && {ask} 2>/dev/null; true"
