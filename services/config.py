"""/etc/griddle/griddle.toml: what a host's services know about themselves and the cluster.

The file is rendered by the deploys from the inventory's data, and read strictly: an unknown, missing or mistyped
key stops the service with one line that names it. nginx reads the same content as griddle.json.

`python -m services.config [PATH]` checks a file: exit code 0, or 2 with the line on stderr.
"""

import os
import re
import sys
import tomllib
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

DEFAULT_PATH = "/etc/griddle/griddle.toml"
ENGINES = ("fdb", "etcd", "memory")
SLOTS = ("a", "b")
PORTS_PER_SLOT = 100  # slot b's ports start this far above slot a's
# Whole numbers, from and to; the deploys hold the inventory's data against the same.
LIMITS = {
    "store.workers": (1, PORTS_PER_SLOT),
    "store.port": (1, 65535),
    "store.max_batch": (1, 4096),
    "store.deadline_ms": (1, 65535),
    "store.value_limit_bytes": (1, 90_000),
    "front.workers": (1, PORTS_PER_SLOT),
    "front.port": (1, 65535),
    "front.backlog": (1, 65535),
    "feed.poll_ms": (10, 60_000),
    "proxy.deadline_ms": (1, 65535),
    "proxy.waiting_limit": (0, 65535),
    "statsd.port": (1, 65535),
    "fdb.transaction_timeout_ms": (1, 5000),
    "fdb.transaction_retry_limit": (0, 100),
}


class ConfigError(ValueError):
    """One line: the file, the key, what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    name: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The store workers: `workers` processes per slot; worker i of slot s listens on port + 100*s + i."""

    engine: str
    workers: int
    port: int
    ipc: str
    address: str = ""  # what workers listen on; empty: all of the host's addresses
    max_batch: int = 256
    deadline_ms: int = 250  # for requests that bring no deadline of their own
    value_limit_bytes: int = 65536
    pin: bool = True  # each worker to one core, see services/store.py


@dataclass(frozen=True, slots=True, kw_only=True)
class Etcd:
    """Members' URLs; with ca, cert and key (PEM files): TLS."""

    endpoints: list[str]
    ca: str = ""
    cert: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fdb:
    """FoundationDB's client: files, API version, and limits of a transaction (ms, retries)."""

    cluster_file: str
    client_library: str
    external_client_directory: str = ""  # more client libraries (*.so), for servers of other minor versions
    api_version: int = 730
    transaction_timeout_ms: int = 1000
    transaction_retry_limit: int = 3
    ca: str = ""  # with cert and key: TLS
    cert: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """The WSGI workers: worker i of slot s listens on port + 100*s + i."""

    workers: int
    port: int
    address: str = "0.0.0.0"
    backlog: int = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """The log's consumer, one process per slot. `nudge`: where it listens for the front's PUB, an nng URL."""

    nudge: str = "ipc:///run/griddle/feed-{slot}.ipc"
    poll_ms: int = 1000  # how long an event may lie where its nudge was lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """One app host and slot, as the proxies see it."""

    host: str
    address: str
    slot: str
    release: str
    store_ports: list[int]
    front_ports: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """What the proxies' Lua program reads; times in ms."""

    lane: str = "direct"
    lane_override: bool = False
    deadline_ms: int = 250
    waiting_limit: int = 1024  # requests that may wait, per nginx worker, while an operation is announced
    control: str = "/run/griddle/control.json"  # where the agent says so
    upstreams: list[Upstream] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statsd:
    """The host's daemon, by UDP."""

    host: str = "127.0.0.1"
    port: int = 8125


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole file, a table for each."""

    cluster: Cluster
    host: Host
    store: Store
    front: Front
    etcd: Etcd | None = None
    fdb: Fdb | None = None
    feed: Feed = field(default_factory=Feed)
    proxy: Proxy = field(default_factory=Proxy)
    statsd: Statsd = field(default_factory=Statsd)


def load(path: str | Path | None = None) -> Config:
    """Read and check the file at `path`, at $GRIDDLE_CONFIG or at the default place; raises ConfigError."""
    return _load(path, parse)


def load_etcd(path: str | Path | None = None) -> Etcd:
    """The same file's [etcd] alone: hosts without services, such as proxies, have no more that is ours."""
    return _load(path, lambda data: _build(Etcd, data.get("etcd"), "etcd"))


def _load(path: str | Path | None, read: Callable[[dict], Any]) -> Any:
    path = Path(path or os.environ.get("GRIDDLE_CONFIG") or DEFAULT_PATH)
    try:
        return read(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse(data: dict) -> Config:
    """A checked Config from the file's content; raises ConfigError."""
    config = _build(Config, data, "")
    _check(config)
    return config


def slot_port(port: int, slot: str, worker: int) -> int:
    """The port of one worker of one slot."""
    return port + PORTS_PER_SLOT * SLOTS.index(slot) + worker


def _check(config: Config) -> None:
    store, proxy = config.store, config.proxy
    _one_of("store.engine", store.engine, ENGINES)
    if store.engine != "memory" and getattr(config, store.engine) is None:
        raise ConfigError(f"[{store.engine}] is missing, and store.engine = {store.engine!r} needs it")
    for name, (low, high) in LIMITS.items():
        table, _, key = name.partition(".")
        if (section := getattr(config, table)) is not None:
            _between(name, getattr(section, key), low, high)
    _one_of("proxy.lane", proxy.lane, ("direct", "wsgi"))
    if set(re.findall(r"{(\w*)}", store.ipc)) != {"slot", "worker"}:
        raise ConfigError("store.ipc must contain {slot} and {worker}, and no other placeholder")
    if set(re.findall(r"{(\w*)}", config.feed.nudge)) != {"slot"}:
        raise ConfigError("feed.nudge must contain {slot}, and no other placeholder")
    for index, upstream in enumerate(proxy.upstreams):
        _one_of(f"proxy.upstreams[{index}].slot", upstream.slot, SLOTS)
    if config.etcd and not config.etcd.endpoints:
        raise ConfigError("etcd.endpoints is empty")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}, and must be one of {', '.join(allowed)}")


def _between(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} is {value}, and must be {low} to {high}")


def _build(cls: type, data: object, where: str):
    if not isinstance(data, dict):
        raise ConfigError(f"{where} must be a table")
    known = {f.name: f for f in fields(cls)}
    prefix = f"{where}." if where else ""
    for key in data:
        if key not in known:
            raise ConfigError(f"{prefix}{key} is not a known key ({', '.join(sorted(known))})")
    hints = typing.get_type_hints(cls)
    values = {}
    for name, f in known.items():
        if name in data:
            values[name] = _value(hints[name], data[name], prefix + name)
        elif f.default is MISSING and f.default_factory is MISSING:
            raise ConfigError(f"{prefix}{name} is missing")
    return cls(**values)


def _value(kind: type, value: object, where: str):
    if isinstance(kind, types.UnionType):  # "X | None": an optional table
        kind = next(k for k in typing.get_args(kind) if k is not types.NoneType)
    if is_dataclass(kind):
        return _build(kind, value, where)
    if typing.get_origin(kind) is list:
        if not isinstance(value, list):
            raise ConfigError(f"{where} must be a list")
        (item,) = typing.get_args(kind)
        return [_value(item, v, f"{where}[{i}]") for i, v in enumerate(value)]
    if type(value) is not kind:
        raise ConfigError(f"{where} is {value!r}, and must be of type {kind.__name__}")
    return value


if __name__ == "__main__":
    try:
        load(*sys.argv[1:2])
    except ConfigError as error:
        sys.exit(print(error, file=sys.stderr) or 2)
