"""Debian packages by component: what each component's `install()` installs, by these very names.

The lab's base image downloads them beforehand, component by component as the deploys install them, so that
hosts of a lab need no network for them.
"""

DEBIAN_PACKAGES: dict[str, list[str]] = {
    "base": ["chrony", "curl", "e2fsprogs", "irqbalance", "logrotate", "procps"],
    "firewall": ["nftables"],
    "etcd": ["etcd-client", "etcd-server"],
    "foundationdb": [],  # its own artifacts, see artifacts.toml
    "metrics": ["collectd-core"],
    "metrics-store": ["victoria-metrics"],
    "app": ["python3", "python3-venv"],
    "proxy": ["keepalived", "libnginx-mod-http-lua", "lua-cjson", "nginx-light"],
}
