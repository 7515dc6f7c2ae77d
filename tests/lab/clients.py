"""Clients of a lab: they read and write through the virtual address, and know what they were told."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Told:
    """Requests that were not answered as they should be, by kind; and writes that were acknowledged."""

    asked: int = 0
    failed: Counter = field(default_factory=Counter)
    longest_seconds: float = 0.0
    acknowledged: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def well_served(self) -> bool:
        """All but one in a thousand. A lab's hosts share two cores: what no operation has announced, such as
        staging, may make a read miss its deadline there. An operation's own report has no such allowance.
        """
        return self.asked > 500 and 1000 * self.failed.total() <= self.asked


@contextmanager
def clients(address: str, readers: int = 6, writers: int = 3, per_second: float = 8) -> Iterator[Told]:
    """Each of them asks `per_second` times, one request after another; both lanes are read."""
    told, lock, over = Told(), threading.Lock(), threading.Event()

    def note(kind: str, seconds: float, good: bool) -> None:
        with lock:
            told.asked += 1
            told.longest_seconds = max(told.longest_seconds, seconds)
            if not good:
                told.failed[kind] += 1

    def read(connection: http.client.HTTPConnection, number: int, turn: int) -> tuple[str, bool]:
        lane, name = ("direct", "wsgi")[turn % 2], f"p{(number * 997 + turn) % 10_000}"
        connection.request("GET", f"/v1/profiles/{name}", headers={"X-Lane": lane})
        answer = connection.getresponse()
        body = answer.read()
        right = answer.status == 200 and json.loads(body)["id"] == name
        return f"read {lane} {answer.status}", right

    def write(connection: http.client.HTTPConnection, number: int, turn: int) -> tuple[str, bool]:
        name, value = f"w{id(told)}-{number}-{turn}", f"value {turn}"
        body = json.dumps({"name": value})
        connection.request("PUT", f"/v1/profiles/{name}", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        if answer.status == 204:
            with lock:
                told.acknowledged[name] = value
        return f"write {answer.status}", answer.status == 204

    def run(what, number: int) -> None:
        connection, turn = http.client.HTTPConnection(address, timeout=10), 0
        while not over.wait(1 / per_second):
            turn += 1
            started = time.monotonic()
            try:
                kind, good = what(connection, number, turn)
            except (OSError, http.client.HTTPException) as error:
                kind, good = f"{what.__name__} {type(error).__name__}", False
                connection.close()
            note(kind, time.monotonic() - started, good)

    threads = [threading.Thread(target=run, args=(read, number)) for number in range(readers)]
    threads += [threading.Thread(target=run, args=(write, number)) for number in range(writers)]
    for thread in threads:
        thread.start()
    try:
        yield told
    finally:
        over.set()
        for thread in threads:
            thread.join()


def lost(address: str, told: Told) -> list[str]:
    """Acknowledged writes that are not there. A store that has no time (503) is asked again."""
    connection = http.client.HTTPConnection(address, timeout=10)
    missing = []
    for name, value in told.acknowledged.items():
        for _ in range(20):
            connection.request("GET", f"/v1/profiles/{name}")
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 503:
                break
            time.sleep(0.2)
        if answer.status != 200 or json.loads(body)["name"] != value:
            missing.append(f"{name}: {answer.status}")
    return missing
