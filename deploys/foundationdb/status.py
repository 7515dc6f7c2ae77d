"""`status json` of FoundationDB, judged: pure.

The document is whatever the cluster can say at the moment, so any field may be missing; a gate whose field is
missing has failed. Fields: FoundationDB documentation, mr-status.rst; schema in fdbclient/Schemas.cpp.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

Document = Mapping[str, Any]

FULLY_RECOVERED = "fully_recovered"
CAUGHT_UP_SECONDS = 5.0
# Messages that say that status itself, or replication, cannot be trusted now.
BAD_MESSAGES = frozenset(
    {"unreadable_configuration", "storage_servers_error", "log_servers_error", "full_replication_timeout"}
)


# What somebody has done by hand does not pass by waiting: what to do about it.
_NEXT = {
    "no process excluded": "./griddle fdb remove what shall leave, or `include` it in fdbcli",
    "no zone under maintenance": "once that work is done: `maintenance off` in fdbcli",
    "database locked": "a restore goes on by the same ./griddle fdb restore; else `unlock` with that ID in fdbcli",
}


class _Missing:
    def __str__(self) -> str:
        return "missing"

    def __bool__(self) -> bool:
        return False


MISSING = _Missing()


@dataclass(frozen=True)
class Limits:
    """What a cluster must be to count as healthy. Times in seconds.

    :param replicas: copies of each piece of data (single 1, double 2, triple 3)
    :param zone_failures: whole zones that may be lost at once, of data and of availability
    :param processes: endpoints (address:port) that must be part of the cluster
    :param version: the version that every process must run; None: any, but the same one
    :param configuration: redundancy and engine that the database must have; None: any
    :param recovered_seconds: how long ago the last recovery must be
    """

    replicas: int
    zone_failures: int
    processes: frozenset[str] = frozenset()
    version: str | None = None
    configuration: tuple[str, str] | None = None
    recovered_seconds: float = 0.0
    lag_seconds: float = 60.0
    queue_bytes: int = 250 * 1024**2


@dataclass(frozen=True)
class Gate:
    """One condition of health: its name, the value seen, and whether that is good."""

    name: str
    seen: str
    ok: bool

    def __str__(self) -> str:
        what_next = "" if self.ok else _NEXT.get(self.name, "")
        return f"{self.name}: {self.seen}{what_next and f' ({what_next})'}"


@dataclass(frozen=True)
class Health:
    """All gates, judged; as text, those that failed with what was seen."""

    gates: tuple[Gate, ...]

    @property
    def ok(self) -> bool:
        return all(gate.ok for gate in self.gates)

    @property
    def failing(self) -> tuple[Gate, ...]:
        return tuple(gate for gate in self.gates if not gate.ok)

    def __str__(self) -> str:
        return "healthy" if self.ok else "; ".join(str(gate) for gate in self.failing)


@dataclass(frozen=True)
class Process:
    """One fdbserver as the cluster sees it; `words` is its command line, split."""

    endpoint: str
    version: str
    words: frozenset[str]
    zone: str
    roles: tuple[str, ...]
    excluded: bool
    set_class: str  # its class where `setclass` has named one
    uptime_seconds: float  # 0 where the cluster does not say it yet: for some seconds after a start


def parse(text: str) -> Document | None:
    """The document in fdbcli's output; None if there is none."""
    start = text.find("{")
    if start < 0:
        return None
    try:
        document, _ = json.JSONDecoder().raw_decode(text[start:])
    except json.JSONDecodeError:
        return None
    return document


def get(document: Any, path: str) -> Any:
    """A field by its dotted path, or MISSING."""
    for key in path.split("."):
        if not isinstance(document, Mapping) or key not in document:
            return MISSING
        document = document[key]
    return document


def is_available(document: Document | None) -> bool:
    """The database serves reads and writes, by what the client itself found."""
    return get(document, "client.database_status.available") is True


def processes(document: Document | None) -> list[Process]:
    """The processes in the cluster, by endpoint."""
    found = []
    for process in _items(get(document, "cluster.processes")):
        found.append(
            Process(
                # A TLS endpoint is written 10.0.0.1:4500:tls.
                endpoint=":".join(str(process.get("address", "")).split(":")[:2]),
                version=str(process.get("version", "")),
                words=frozenset(str(process.get("command_line", "")).split()),
                zone=str(get(process, "locality.zoneid") or ""),
                roles=tuple(sorted(role.get("role", "") for role in process.get("roles", []))),
                excluded=process.get("excluded") is not False,
                set_class=str(process.get("class_type", "")) if process.get("class_source") == "set_class" else "",
                uptime_seconds=float(process.get("uptime_seconds", 0)),
            )
        )
    return sorted(found, key=lambda process: process.endpoint)


def without(document: Document | None, address: str) -> Document | None:
    """The document without the processes at an address: what is asked of all is not asked of them."""
    found = get(document, "cluster.processes")
    if not isinstance(found, Mapping):
        return document
    stay = {key: each for key, each in found.items() if str(each.get("address", "")).partition(":")[0] != address}
    return {**document, "cluster": {**document["cluster"], "processes": stay}}


def stale(document: Document | None, wanted: Mapping[str, frozenset[str]]) -> dict[str, str]:
    """Endpoints that run with another command line than wanted: {endpoint: the words that differ}."""
    return {
        process.endpoint: " ".join(sorted(process.words ^ wanted[process.endpoint]))
        for process in processes(document)
        if process.endpoint in wanted and process.words != wanted[process.endpoint]
    }


def judge(document: Document | None, limits: Limits) -> Health:
    """Every health gate, in the order in which an operator would look."""
    return Health(tuple(_gates(document or {}, limits)))


# What only data distribution says, and what differs while versions do.
_NOT_BEFORE_A_ZONE = ("data healthy", "at least", "one version", "seconds since")


def bears(document: Document | None, limits: Limits) -> Health:
    """Whether the cluster bears that the next zone restarts: every gate but data distribution's own.

    Data distribution moves with each recovery, says nothing for its first 36 s, and takes every storage server for
    alive for its first 60 s (initial_failure_reaction_delay, data_distribution_failure_reaction_time;
    fdbserver/DDTeamCollection.actor.cpp). What it would say then is no evidence; the storage servers' own answers
    are: each is there, and has caught up.
    """
    gates = [gate for gate in judge(document, limits).gates if not gate.name.startswith(_NOT_BEFORE_A_ZONE)]
    servers = [
        role
        for process in _items(get(document, "cluster.processes"))
        for role in process.get("roles", [])
        if role.get("role") == "storage"
    ]
    gates.append(
        _all(
            "every storage server caught up",
            servers,
            lambda role: _at_most(get(role, "data_lag.seconds"), CAUGHT_UP_SECONDS),
            lambda role: f"{str(role.get('id'))[:8]} lags {_show(get(role, 'data_lag.seconds'))} s",
        )
    )
    return Health(tuple(gates))


def newest_versions(document: Document | None) -> dict[str, str]:
    """{address:port: the newest version that it speaks} of clients, as coordinators list them.

    They list a client until its long poll ends, up to 600 s after it has gone (CLIENT_REGISTER_INTERVAL,
    fdbserver/Coordination.actor.cpp). Lists are samples.
    """
    return {
        ":".join(str(client.get("address", "")).split(":")[:2]): str(supported.get("client_version", "Unknown"))
        for supported in _items(get(document, "cluster.clients.supported_versions"))
        for client in _items(supported.get("max_protocol_clients"))
    }


def _gates(document: Document, limits: Limits) -> Iterator[Gate]:
    def equal(name: str, path: str, wanted: Any) -> Gate:
        seen = get(document, path)
        return Gate(name, _show(seen), type(seen) is type(wanted) and seen == wanted)

    def bounded(name: str, path: str, *, least: float | None = None, most: float | None = None) -> Gate:
        seen = get(document, path)
        ok = isinstance(seen, int | float)
        ok = ok and (least is None or seen >= least) and (most is None or seen <= most)
        return Gate(name, _show(seen), ok)

    yield equal("available", "client.database_status.available", True)
    yield equal("coordinators' quorum", "client.coordinators.quorum_reachable", True)
    yield _all(
        "every coordinator reachable",
        get(document, "client.coordinators.coordinators"),
        lambda each: each.get("reachable") is True,
        lambda each: str(each.get("address")),
    )
    yield equal("cluster file up to date", "client.cluster_file.up_to_date", True)
    yield _configuration(get(document, "cluster.configuration"), limits.configuration)
    yield equal("recovery state", "cluster.recovery_state.name", FULLY_RECOVERED)
    yield equal("active generations", "cluster.recovery_state.active_generations", 1)
    yield bounded(
        "seconds since last recovery",
        "cluster.recovery_state.seconds_since_last_recovered",
        least=limits.recovered_seconds,
    )
    yield equal("can bounce cleanly", "cluster.bounce_impact.can_clean_bounce", True)
    yield equal("data healthy", "cluster.data.state.healthy", True)
    yield _all(
        f"at least {limits.replicas} replicas of everything",
        get(document, "cluster.data.team_trackers"),
        lambda each: _at_least(get(each, "state.min_replicas_remaining"), limits.replicas),
        lambda each: f"{_show(get(each, 'state.min_replicas_remaining'))} left",
    )
    yield _all(
        "logs' fault tolerance",
        get(document, "cluster.logs"),
        lambda each: _at_least(each.get("log_fault_tolerance"), each.get("log_replication_factor", 99) - 1),
        lambda each: f"{each.get('log_fault_tolerance')} of {each.get('log_replication_factor')} copies",
    )
    for what in ("data", "availability"):
        yield bounded(
            f"zones to lose without losing {what}",
            f"cluster.fault_tolerance.max_zone_failures_without_losing_{what}",
            least=limits.zone_failures,
        )
    for name, path in (
        ("data lag, seconds", "cluster.qos.worst_data_lag_storage_server.seconds"),
        ("durability lag, seconds", "cluster.qos.worst_durability_lag_storage_server.seconds"),
    ):
        yield bounded(name, path, most=limits.lag_seconds)
    for role in ("log", "storage"):
        yield bounded(
            f"{role} queue, bytes", f"cluster.qos.worst_queue_bytes_{role}_server", most=limits.queue_bytes
        )
    yield _messages(get(document, "cluster.messages"))
    yield from _process_gates(document, limits)
    yield _incompatible(document, limits)
    zone = get(document, "cluster.maintenance_zone")
    yield Gate("no zone under maintenance", "none" if zone is MISSING else str(zone), zone is MISSING)
    locked = equal("database locked", "cluster.database_lock_state.locked", False)
    lock = get(document, "cluster.database_lock_state.lock_id")
    yield locked if locked.ok or lock is MISSING else replace(locked, seen=f"{locked.seen}, by {lock}")


def _configuration(configuration: Any, wanted: tuple[str, str] | None) -> Gate:
    seen = (str(get(configuration, "redundancy_mode")), str(get(configuration, "storage_engine")))
    # The engine's name is an alias of its newest format: ssd is ssd-2.
    ok = configuration is not MISSING
    ok = ok and (wanted is None or (seen[0] == wanted[0] and seen[1].startswith(wanted[1])))
    return Gate("redundancy and engine", " ".join(seen), ok)


def _process_gates(document: Document, limits: Limits) -> Iterator[Gate]:
    found = get(document, "cluster.processes")
    seen = processes(document)
    absent = sorted(limits.processes - {process.endpoint for process in seen})
    strange = sorted({process.endpoint for process in seen} - limits.processes) if limits.processes else []
    # As while a host leaves. An upgrade refuses them.
    besides = f", of which the inventory does not have {', '.join(strange)}" if strange else ""
    yield Gate(
        "processes in the cluster",
        f"{len(seen)}" + (f", without {', '.join(absent)}" if absent else "") + besides,
        bool(seen) and not absent,
    )
    versions = sorted({process.version for process in seen})
    wanted = [limits.version] if limits.version else versions[:1]
    # The others' addresses are named; those of the version that most run would be too many.
    most_common = limits.version or max(versions, key=[p.version for p in seen].count, default="")
    named = []
    for version in versions:
        who = ", ".join(p.endpoint for p in seen if p.version == version)
        named.append(version if len(versions) == 1 or version == most_common else f"{version} ({who})")
    yield Gate("one version", ", ".join(named) or "missing", bool(seen) and versions == wanted)
    excluded = [process.endpoint for process in seen if process.excluded]
    yield Gate("no process excluded", ", ".join(excluded) or "none", bool(seen) and not excluded)
    yield _all(
        "no process messages",
        found,
        lambda each: each.get("messages") == [],
        lambda each: f"{each.get('address')} {_names(each.get('messages', MISSING))}",
    )


def _messages(messages: Any) -> Gate:
    if not isinstance(messages, list):
        return Gate("cluster messages", _show(messages), False)
    names = {message.get("name") for message in messages}
    return Gate("cluster messages", _names(messages), not names & BAD_MESSAGES)


def _names(messages: Any) -> str:
    if not isinstance(messages, list):
        return _show(messages)
    return ", ".join(str(message.get("name")) for message in messages) or "none"


def _incompatible(document: Document, limits: Limits) -> Gate:
    """None of the cluster's processes is kept out by its version.

    The list remembers each address for 600 s (INCOMPATIBLE_PEERS_LOGGING_INTERVAL, fdbclient/ServerKnobs.cpp):
    processes that have joined since, and any tool of another version that somebody ran. A client that is cut off
    is no matter of the database's health, so it is shown.
    """
    seen = get(document, "cluster.incompatible_connections")
    if not isinstance(seen, list):
        return Gate("incompatible connections", _show(seen), False)
    out = limits.processes - {process.endpoint for process in processes(document)}
    kept_out = sorted(out & {":".join(str(each).split(":")[:2]) for each in seen})
    shown = f"{', '.join(map(str, seen))} in the last 10 minutes" if seen else "none"
    return Gate("incompatible connections", ", ".join(kept_out) or shown, not kept_out)


def _all(name: str, collection: Any, good: Any, show: Any) -> Gate:
    """Every member of a list (or of a map's values) is good, and there is at least one."""
    members = _items(collection)
    if not members:
        return Gate(name, _show(collection) if collection is MISSING else "none", False)
    bad = [show(each) for each in members if not good(each)]
    return Gate(name, ", ".join(bad) if bad else f"all {len(members)}", not bad)


def _items(collection: Any) -> list[Mapping[str, Any]]:
    values: Iterable[Any] = collection.values() if isinstance(collection, Mapping) else collection or []
    return [value for value in values if isinstance(value, Mapping)]


def _at_most(seen: Any, most: float) -> bool:
    return isinstance(seen, int | float) and seen <= most


def _at_least(seen: Any, least: int) -> bool:
    return isinstance(seen, int | float) and seen >= least


def _show(seen: Any) -> str:
    if isinstance(seen, bool):
        return "true" if seen else "false"
    if isinstance(seen, float):
        return f"{seen:.3g}"
    return str(seen)
