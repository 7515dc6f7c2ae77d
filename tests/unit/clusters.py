"""Clusters for tests, made as an inventory file would make them."""

from pathlib import Path
from typing import Any

from cluster import model
from deploys import components  # noqa: F401  (components register their keys and checks)

HOSTS = {
    "proxies": {"proxy1": 11, "proxy2": 12},
    "apps": {"app1": 21, "app2": 22, "app3": 23},
    "etcd": {"app1": 21, "app2": 22, "app3": 23},
    "fdb": {"fdb1": 31, "fdb2": 32, "fdb3": 33, "fdb4": 34, "fdb5": 35},
    "metrics": {"metrics1": 41},
}


def cluster(without: tuple[str, ...] = (), also: dict[str, str] | None = None, **overrides: Any) -> model.Cluster:
    """The usual cluster in 192.0.2.0/24, less the named hosts; `also`: {group: one more of its hosts}."""
    names = {
        group: [(name, {"address": f"192.0.2.{octet}"}) for name, octet in hosts.items() if name not in without]
        for group, hosts in HOSTS.items()
    }
    for group, name in (also or {}).items():
        names.setdefault(group, []).append((name, {}))
    return model.from_file(Path("prod.py"), names, overrides)
