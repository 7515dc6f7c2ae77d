"""Where certificates lie on hosts."""

from __future__ import annotations

SERVICES = "/etc/griddle/pki"  # of whatever asks etcd or the database: services, agent, metrics
ETCD = "/etc/etcd/pki"
FOUNDATIONDB = "/etc/foundationdb/pki"

BUNDLES = (f"{ETCD}/ca.crt", f"{SERVICES}/ca.crt", f"{FOUNDATIONDB}/ca.crt")
# Each kind's certificate may lie in more than one place: (kind, certificate, key).
PAIRS = (
    ("host", f"{ETCD}/member.crt", f"{ETCD}/member.key"),
    ("host", f"{FOUNDATIONDB}/host.crt", f"{FOUNDATIONDB}/host.key"),
    ("client", f"{SERVICES}/client.crt", f"{SERVICES}/client.key"),
)
