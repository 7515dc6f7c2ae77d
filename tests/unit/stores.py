"""Real stores on loopback for tests of the engines, see ops/stores.py."""

from ops.stores import Fdb, Server, etcd, etcd_missing, fdb_missing, free_port, listens, wait_until

__all__ = ["Fdb", "Server", "etcd", "etcd_missing", "fdb_missing", "free_port", "listens", "wait_until"]
