"""Fills the store with profiles that are the same on every run.

    python -m services.seed --count 10000

Profile number i has the id pi (p0, p1, ...) and about 230 bytes of JSON. Batches that are there already are left
alone, so that a second run, or one after an interruption, is quick. Batches are written by transactions of the
engine itself; the memory engine's data are inside the store worker, which is asked over ipc.
"""

import argparse
import random
import sys
from collections.abc import Callable, Mapping

from services import profile, sp
from services.client import StoreAway, StoreClient
from services.config import SLOTS, Config, ConfigError, load
from services.engines.base import EngineError, Unavailable
from services.http import json_bytes

BATCH = 100
TIMEOUT_MS = 5000
TRIES = 5
NAMES = ("Ada", "Bo", "Cleo", "Dag", "Edda", "Finn", "Gro", "Hal", "Ida", "Jon", "Kaja", "Leif", "Mia", "Nils")
CITIES = ("Aarhus", "Bergen", "Gävle", "Kiruna", "Lund", "Malmö", "Oslo", "Turku", "Umeå", "Visby")
INTERESTS = ("baking", "chess", "cinema", "climbing", "dogs", "football", "hiking", "jazz", "opera", "sailing")

Present = Callable[[bytes], bool]
Write = Callable[[Mapping[bytes, bytes]], None]


def profile_id(number: int) -> str:
    return f"p{number}"


def profile_value(number: int) -> bytes:
    """The stored JSON of a profile; depends on its number alone."""
    chance = random.Random(number)
    name = chance.choice(NAMES)
    interests = chance.sample(INTERESTS, 3)
    about = (
        f"{name} likes {', '.join(interests)} and would like to meet people who do, too. "
        f"Ask about {chance.choice(CITIES)}! Number {number:07d}."
    )
    return json_bytes(
        {
            "id": profile_id(number),
            "name": f"{name} {chance.choice(NAMES)}sen",
            "age": chance.randrange(18, 90),
            "city": chance.choice(CITIES),
            "about": about,
            "interests": interests,
        }
    )


def seed(count: int, present: Present, write: Write, say: Callable[[str], None]) -> int:
    """Write what is missing of `count` profiles; how many that were.

    A batch is one transaction, so that its last profile tells of the whole batch.
    """
    written = 0
    for first in range(0, count, BATCH):
        numbers = range(first, min(first + BATCH, count))
        if present(profile.key_of(profile_id(numbers[-1]))):
            continue
        write({profile.key_of(profile_id(number)): profile_value(number) for number in numbers})
        written += len(numbers)
        if (first + BATCH) % 2000 == 0:
            say(f"{first + BATCH:,} of {count:,} profiles")
    return written


def by_engine(config: Config) -> tuple[Present, Write]:
    """Straight to the store."""
    from services.engines import open_engine

    engine = open_engine(config)

    def present(key: bytes) -> bool:
        return _again(lambda: engine.get_many([key], TIMEOUT_MS)) != [None]

    def write(values: Mapping[bytes, bytes]) -> None:
        _again(lambda: engine.transact({}, values, TIMEOUT_MS))

    return present, write


def by_worker(config: Config, slot: str) -> tuple[Present, Write]:
    """Through the store worker."""
    paths = [config.store.ipc.format(slot=slot, worker=worker) for worker in range(config.store.workers)]
    client = StoreClient(paths)

    def ask(operation: int, body: bytes) -> sp.Reply:
        reply = client.ask(operation, body, TIMEOUT_MS)
        if reply.status not in (sp.OK, sp.NOT_FOUND):
            raise StoreAway(reply.body.decode("utf-8", "replace"))
        return reply

    def present(key: bytes) -> bool:
        return ask(sp.GET, key).status == sp.OK

    def write(values: Mapping[bytes, bytes]) -> None:
        ask(sp.TRANSACT, sp.transact_body({}, values))

    return present, write


def _again(call: Callable):
    """These writes may be repeated: always the same values for the same keys."""
    for attempt in range(1, TRIES + 1):
        try:
            return call()
        except Unavailable:
            if attempt == TRIES:
                raise
    return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="services.seed")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--slot", choices=SLOTS, default="a", help="memory engine: whose worker to ask")
    options = parser.parse_args(arguments)
    try:
        config = load()
        present, write = by_worker(config, options.slot) if config.store.engine == "memory" else by_engine(config)
        written = seed(options.count, present, write, lambda line: print(line, file=sys.stderr, flush=True))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except (EngineError, StoreAway, OSError) as error:
        print(f"seed: {error}; run it again, it goes on where it stopped", file=sys.stderr)
        return 1
    print(f"{written:,} profiles written, {options.count - written:,} were there", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
