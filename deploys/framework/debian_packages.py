"""Debian packages by component: what each component's `install()` installs, by these very names.

The lab's base image downloads them beforehand, component by component as the deploys install them, so that
hosts of a lab need no network for them.
"""

from collections.abc import Iterable

DEBIAN_PACKAGES: dict[str, list[str]] = {
    "base": ["chrony", "curl", "e2fsprogs", "irqbalance", "logrotate", "procps"],
    "firewall": ["nftables"],
    "etcd": ["etcd-client", "etcd-server"],
    "foundationdb": [],  # its own artifacts, see artifacts.toml
    "metrics": ["collectd-core"],
    "metrics-store": ["python3", "victoria-metrics"],
    # charts: the one library in Debian 12 that is made for time series, draws on a canvas (fast), needs no other
    # library and is its newest version (2.2.1); 37 kB on the wire
    "metrics-board": ["libjs-dygraphs", "nginx-light"],
    "app": ["python3", "python3-venv"],
    "proxy": ["keepalived", "libnginx-mod-http-lua", "lua-cjson", "nginx-light"],
}

# The components of each group's hosts, beside what every host has. What is missing here is installed all the same,
# by its own component; a transaction of its own costs some seconds of dpkg's time on each host.
_COMPONENTS_OF: dict[str, tuple[str, ...]] = {
    "apps": ("app", "metrics"),
    "proxies": ("proxy", "metrics", "app"),
    "etcd": ("etcd", "metrics"),
    "fdb": ("metrics",),
    "load": ("metrics",),
    "metrics": ("metrics", "metrics-store", "metrics-board"),
}


def of_groups(groups: Iterable[str]) -> list[str]:
    """All packages of a host in these inventory groups, to be installed in one transaction."""
    components = {"base", "firewall"}.union(*(_COMPONENTS_OF.get(group, ()) for group in groups))
    return sorted({package for component in components for package in DEBIAN_PACKAGES[component]})
