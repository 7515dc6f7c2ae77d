"""What a host knows of etcd, found by looking at it: one shell script, and what it says. Pure.

A member that has not had a majority since it started answers no client, not even for its own state. It answers
its peers, though: the member list is asked from there (etcd 3.4, server/api/etcdhttp/peer.go).
"""

from __future__ import annotations

import json
import shlex
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cluster.pki import places
from deploys.etcd.config import CONF, DATA, RESTORE, SNAPSHOTS
from services.control import OPERATION_KEY

ASK_SECONDS = 5
_PAIRS = (("cacert", "ca.crt"), ("cert", "member.crt"), ("key", "member.key"))


@dataclass(frozen=True)
class Member:
    """One line of a member list. `peer` is host:port; one that was added and never started has no `name`.

    :param published: it has once told the others where its clients find it, so it has been a working member
    """

    id: int
    name: str
    peer: str
    published: bool = True
    learner: bool = False

    @property
    def address(self) -> str:
        return self.peer.rpartition(":")[0]


@dataclass(frozen=True)
class Status:
    """What a member says of itself; bytes. `leader` 0: it knows of none. `alarms`: such as NOSPACE."""

    id: int
    leader: int
    version: str
    revision: int
    applied: int
    size: int
    in_use: int
    quota: int = 0
    alarms: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """etcd on one host.

    :param data: names of the clusters whose data directories hold a member's log
    :param active: the unit's state by systemd; enabled: it starts at boot
    :param cluster: the cluster's id, 0 if this host's member does not answer; `members`: its list
    :param endpoints: addresses of etcd that the host's services were given by the last apply
    :param snapshots: paths, the oldest first
    :param operation: the one that is announced, by this member
    :param restoring: a restore was begun here, and its end has not been reached
    """

    data: tuple[str, ...] = ()
    active: str = ""
    enabled: bool = False
    cluster: int = 0
    members: tuple[Member, ...] = ()
    status: Status | None = None
    endpoints: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    operation: Mapping[str, Any] | None = None
    restoring: bool = False

    @property
    def answers(self) -> bool:
        return bool(self.cluster)

    @property
    def runs(self) -> bool:
        return self.active in ("active", "activating", "reloading")


def command(root: str = "") -> str:
    """The script, to be run as root; it works on a bare host, too, and exits 0.

    :param root: before every path, for tests
    """
    conf, pki = f"{root}{CONF}", f"{root}{places.ETCD}"
    lock = shlex.quote(json.dumps({"key": b64encode(OPERATION_KEY.encode()).decode(), "serializable": True}))
    return "\n".join(
        [
            # etcd makes the directory, and a database, before it finds that it may not begin a cluster
            f"for d in {root}{DATA}/*; do",
            '  ! ls "$d"/member/wal/*.wal >/dev/null 2>&1 || echo "data ${d##*/}"; done',
            "systemctl show -p ActiveState,UnitFileState etcd.service 2>/dev/null | sed 's/^/unit /'",
            f"[ ! -e {root}{RESTORE}/begun ] || echo restoring",
            f"ls -1 {root}{SNAPSHOTS}/*.db 2>/dev/null | sed 's/^/snapshot /'",
            f"[ ! -r {root}/etc/griddle/griddle.json ] ||"
            f" {{ printf 'griddle '; tr -d '\\n' < {root}/etc/griddle/griddle.json; echo; }}",
            f"if [ -r {conf} ] && command -v curl >/dev/null; then",
            f"  peer=$(sed -n 's/^listen-peer-urls: *//p' {conf})",
            f"  client=$(sed -n 's/^listen-client-urls: *\\([^,]*\\).*/\\1/p' {conf})",
            f"  tls=; [ ! -e {pki}/ca.crt ] || tls='--cacert {pki}/ca.crt --cert {pki}/member.crt"
            f" --key {pki}/member.key'",
            f"  ask() {{ curl -qsS --http1.1 --noproxy '*' -m {ASK_SECONDS} $tls \"$@\" 2>/dev/null; }}",
            "  if list=$(ask -f -w 'cluster %header{x-etcd-cluster-id}' \"$peer/members\"); then",
            '    echo "members $list"',
            '    if status=$(ask -d {} "$client/v3/maintenance/status"); then',
            '      echo "status $status"',
            "      ask \"$client/metrics\" | sed -n 's/^etcd_server_quota_backend_bytes /quota /p'",
            f'      printf "operation "; ask -d {lock} "$client/v3/kv/range"; echo',
            "    fi; fi; fi; true",
        ]
    )


def peers_command(peers: Iterable[str]) -> str:
    """A shell script for a member's host: prints those of these peers' addresses where a member answers."""
    tls = " ".join(f"--{option} {places.ETCD}/{file}" for option, file in _PAIRS)
    ask = f"curl -qsSf --http1.1 --noproxy '*' -m {ASK_SECONDS} {tls} -o /dev/null"
    return (
        "\n".join(f"{ask} https://{peer}/members 2>/dev/null && echo {peer}" for peer in map(shlex.quote, peers))
        + "\ntrue"
    )


def parse(lines: Iterable[str]) -> Found:
    """What the script said; what is missing or is no JSON stays at its default."""
    data: list[str] = []
    snapshots: list[str] = []
    values: dict[str, Any] = {}
    unit: dict[str, str] = {}
    quota = 0
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "data":
            data.append(rest)
        elif word == "snapshot":
            snapshots.append(rest)
        elif word == "restoring":
            values["restoring"] = True
        elif word == "unit":
            key, _, value = rest.partition("=")
            unit[key] = value
        elif word == "cluster":
            values["cluster"] = int(rest, 16) if rest else 0
        elif word == "members":
            values["members"] = tuple(map(_member, _json(rest) or ()))
        elif word == "status":
            values["status"] = _json(rest)
        elif word == "quota":
            quota = int(float(rest))
        elif word == "griddle":
            etcd = (_json(rest) or {}).get("etcd") or {}
            values["endpoints"] = tuple(urlsplit(url).hostname or "" for url in etcd.get("endpoints", ()))
        elif word == "operation":
            values["operation"] = _operation(_json(rest))
    if said := values.pop("status", None):
        values["status"] = _status(said, quota)
    return Found(
        data=tuple(data),
        snapshots=tuple(snapshots),
        active=unit.get("ActiveState", ""),
        enabled=unit.get("UnitFileState") == "enabled",
        **values,
    )


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _member(said: Mapping[str, Any]) -> Member:
    """A member as the peers' list or the gateway spells it."""
    return Member(
        id=int(said.get("id") or said.get("ID") or 0),
        name=said.get("name", ""),
        peer=urlsplit((said.get("peerURLs") or [""])[0]).netloc,
        published=bool(said.get("clientURLs")),
        learner=bool(said.get("isLearner")),
    )


def _status(said: Mapping[str, Any], quota: int) -> Status | None:
    if "header" not in said:
        return None
    # `errors` holds the alarms of all members as `memberID:1 alarm:NOSPACE `, and that there is no leader
    errors = [str(error).strip() for error in said.get("errors", ())]
    own = int(said["header"].get("member_id", 0))
    mine = f"memberID:{own} alarm:"
    return Status(
        id=own,
        leader=int(said.get("leader", 0)),
        version=said.get("version", ""),
        revision=int(said["header"].get("revision", 0)),
        applied=int(said.get("raftAppliedIndex", 0)),
        size=int(said.get("dbSize", 0)),
        in_use=int(said.get("dbSizeInUse", 0)),
        quota=quota,
        alarms=tuple(error.removeprefix(mine) for error in errors if error.startswith(mine)),
        errors=tuple(error for error in errors if "alarm:" not in error),
    )


def _operation(said: Any) -> Mapping[str, Any] | None:
    for pair in (said or {}).get("kvs", ()):
        return _json(b64decode(pair.get("value", "")).decode(errors="replace"))
    return None
