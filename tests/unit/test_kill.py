"""Kill -9 of front, store workers, feeds and the database under concurrent writes: every acknowledged message is
in the feed exactly once, and each writer's messages are in the order in which they were acknowledged.

GRIDDLE_KILL_ROUNDS sets how often something is killed; GRIDDLE_KILL_SEED in which order, and when.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.unit import stores
from tests.unit.serving import Answer, ServingPath, ask, real_store

ROUNDS = int(os.environ.get("GRIDDLE_KILL_ROUNDS", "6"))
SEED = int(os.environ.get("GRIDDLE_KILL_SEED", "1"))
WRITERS = 4
OWNERS = ("eva", "finn")
ATTEMPT_SECONDS = 90  # how long a message may take to be acknowledged, however often it is sent
FDB_REST_SECONDS = 2  # restarted at once, fdbserver finds its address in use


class Cluster:
    """Two store workers, a front and two feeds over one real database; each may be killed and comes back."""

    def __init__(self, directory: Path, database: stores.Server, engine: dict) -> None:
        self.database = database
        self.path = ServingPath(directory / "path", workers=2)
        self.path.use(engine)
        self.starters = {
            "store 0": lambda: self.path.start_store(0),
            "store 1": lambda: self.path.start_store(1),
            "feed a": lambda: self.path.start_feed("a"),
            "feed b": lambda: self._start_feed_b(),
            "front": self.path.start_front,
        }
        self.processes = {name: start() for name, start in self.starters.items()}

    def _start_feed_b(self):
        for worker in range(2):  # slot b has no store workers of its own here
            link = self.path.directory / f"s-b-{worker}.ipc"
            link.unlink(missing_ok=True)
            link.symlink_to(self.path.ipc[worker])
        return self.path.start_feed("b")

    def kill(self, name: str, away_seconds: float) -> None:
        """Kill -9, and start it again after a while."""
        if name == "database":
            if isinstance(self.database, stores.FdbNodes):
                self.database.kill_one()
            else:
                self.database.stop()
            wait = FDB_REST_SECONDS if isinstance(self.database, stores.Fdb) else 0
            time.sleep(max(away_seconds, wait))
            self.database.start()
            return
        process = self.processes[name]
        victims = [process.pid]
        if name == "front":  # gunicorn's master and its worker
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            victims += map(int, children.split())
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        process.wait()
        time.sleep(away_seconds)
        self.processes[name] = self.starters[name]()


KINDS = ["etcd", "fdb", *(["fdb-nodes"] if "GRIDDLE_KILL_ROUNDS" in os.environ else [])]


@pytest.fixture(scope="module", params=KINDS)
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory: Path = tmp_path_factory.mktemp(request.param)
    with real_store(request.param, directory) as (database, engine):
        cluster = Cluster(directory, database, engine)
        try:
            yield cluster
        finally:
            cluster.path.stop()


def ready(cluster: Cluster) -> bool:
    try:
        return ask(cluster.path.ports["front"], "GET", "/readyz").status == 200
    except OSError:
        return False


def send(port: int, owner: str, body: bytes, key: str) -> None:
    """Send until it is acknowledged."""
    end = time.monotonic() + ATTEMPT_SECONDS
    while True:
        try:
            answer = ask(port, "POST", f"/v1/profiles/{owner}/messages", body, Idempotency_Key=key)
            if answer.status == 201:
                return
            assert answer.status == 503, answer
        except (OSError, http.client.HTTPException):
            pass
        assert time.monotonic() < end, f"{key}: not acknowledged within {ATTEMPT_SECONDS} s"
        time.sleep(0.05)


def read(port: int, owner: str) -> list[str]:
    """The texts of a whole feed, oldest first, by pages."""
    texts: list[str] = []
    query = "?limit=100"
    while True:
        answer = read_page(port, owner, query)
        texts += [item["text"] for item in answer.json["items"]]
        if answer.json["next"] is None:
            return texts[::-1]
        assert len(base64.urlsafe_b64decode(answer.json["next"] + "==")) == 10
        query = f"?limit=100&before={answer.json['next']}"


def read_page(port: int, owner: str, query: str) -> Answer:
    """Right after the last kill the store may be away for a moment."""
    for _ in range(300):
        answer = ask(port, "GET", f"/v1/profiles/{owner}/feed{query}")
        if answer.status == 200:
            return answer
        assert answer.status == 503, answer
        time.sleep(0.1)
    raise AssertionError("no feed can be read")


def test_whatever_is_killed_what_was_acknowledged_is_in_the_feed_once_and_in_order(cluster: Cluster) -> None:
    chance = random.Random(SEED)
    port = cluster.path.ports["front"]
    stores.wait_until("the front answers from the store", lambda: ready(cluster), 60)
    for owner in OWNERS:
        assert ask(port, "PUT", f"/v1/profiles/{owner}", b'{"name":"x"}').status == 204
    acknowledged: dict[tuple[int, str], list[str]] = {(w, o): [] for w in range(WRITERS) for o in OWNERS}
    stop, failures = threading.Event(), []

    def write(writer: int) -> None:
        try:
            for number in count():
                if stop.is_set():
                    return
                owner = OWNERS[number % len(OWNERS)]
                text = f"w{writer}-{number}"
                send(port, owner, json.dumps({"from": f"w{writer}", "text": text}).encode(), text)
                acknowledged[writer, owner].append(text)
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in writers:
        thread.start()
    nodes = 3 if isinstance(cluster.database, stores.FdbNodes) else 1
    everything = [*cluster.processes, *["database"] * nodes]
    bag: list[str] = []  # each once, at random, then all again
    killed: list[str] = []
    try:
        for _ in range(ROUNDS):
            bag = bag or chance.sample(everything, len(everything))
            victim = bag.pop()
            killed.append(victim)
            time.sleep(chance.uniform(0.2, 1.0))
            cluster.kill(victim, chance.uniform(0, 0.5))
            before = sum(map(len, acknowledged.values()))
            stores.wait_until(
                f"writes go on after {victim} was killed",
                lambda before=before: failures or sum(map(len, acknowledged.values())) > before + 2 * WRITERS, 60,
            )  # fmt: skip
    finally:
        stop.set()
        for thread in writers:
            thread.join()
    assert not failures, failures
    expected = sum(map(len, acknowledged.values()))
    stores.wait_until(
        "the feeds have caught up", lambda: sum(len(read(port, owner)) for owner in OWNERS) >= expected, 60
    )
    time.sleep(1)  # and nothing comes twice
    for owner in OWNERS:
        feed = read(port, owner)
        for writer in range(WRITERS):
            mine = [text for text in feed if text.startswith(f"w{writer}-")]
            assert mine == acknowledged[writer, owner]
    print(f"\n{len(killed)} killed, the database {killed.count('database')} times; {expected} messages in order")
