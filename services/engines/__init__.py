"""The store engines behind one small interface (base.Engine), and how one is opened."""

from services.config import Config
from services.control import Control
from services.engines.base import Engine


def open_engine(config: Config, control: Control | None = None) -> Engine:
    """The engine that the configuration names. Does not wait for the store: its first use does.

    `control`: while it announces an operation, calls may last as long as it says.
    """
    if config.store.engine == "fdb":
        from services.engines.fdb import FdbEngine

        return FdbEngine(config.fdb, config.store.value_limit_bytes, control)
    if config.store.engine == "etcd":
        from services.engines.etcd import EtcdEngine

        return EtcdEngine(config.etcd, config.store.value_limit_bytes)
    from services.engines.memory import MemoryEngine

    return MemoryEngine(config.store.value_limit_bytes)
