"""Real stores on loopback for tests of the engines, see ops/stores.py."""

from ops.stores import (
    Fdb,
    FdbNodes,
    Server,
    etcd,
    etcd_missing,
    fdb_missing,
    free_port,
    listens,
    wait_until,
)

__all__ = [
    "Fdb",
    "FdbNodes",
    "Server",
    "etcd",
    "etcd_missing",
    "fdb_missing",
    "free_port",
    "listens",
    "wait_until",
]
