"""The store as the Python peers read it: Griddle's own engine, one key at a time, in the handler's process."""

from pathlib import Path

from services import profile
from services.config import Config, load
from services.engines import open_engine
from services.engines.base import VERSION_BYTES, Engine
from services.seed import BATCH, profile_id, profile_value, seed

TIMEOUT_MS = 250


def opened(profiles: int) -> Engine:
    """The engine that $GRIDDLE_CONFIG names. In memory: with `profiles` profiles, in this process."""
    config: Config = load()
    engine = open_engine(config)
    if config.store.engine == "memory":
        seed(profiles, lambda _: False, lambda values: engine.transact({}, values, TIMEOUT_MS), lambda _: None)
    return engine


def read(engine: Engine, name: str) -> bytes | None:
    """The JSON of a profile."""
    record = engine.get_many([profile.key_of(name)], TIMEOUT_MS)[0]
    return None if record is None else record[VERSION_BYTES:]


def write_file(path: Path, profiles: int) -> None:
    """For the peer in Go: a line for each profile, its id, a tab, its JSON."""
    with path.open("wb") as file:
        for first in range(0, profiles, BATCH):
            for number in range(first, min(first + BATCH, profiles)):
                file.write(profile_id(number).encode() + b"\t" + profile_value(number) + b"\n")
