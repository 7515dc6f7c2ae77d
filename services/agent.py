"""The agent: keeps /run/griddle/control.json equal to what etcd holds under /griddle/.

    python -m services.agent

One per proxy and app host. Whoever serves requests reads that file, never etcd: {"revision": N, "keys": {"NAME":
value, ...}, "leased": [NAME, ...]}, where NAME is the key without the prefix and values are JSON. The file is
replaced whole. While etcd cannot be reached it stays as it is, also over a restart of the agent; but keys with a
lease, which would end with their owner, do not outlive 15 s without news, whatever the agent waits for. It may be
restarted meanwhile: the file's time of change is that of the last news.
"""

import contextlib
import copy
import http.client
import json
import logging
import os
import random
import signal
import ssl
import sys
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from services.config import ConfigError, Etcd, load_etcd
from services.control import PATH
from services.notify import notify

PREFIX = b"/griddle/"
QUIET_SECONDS = 10  # a watch without an event for this long is opened anew: its member may have been cut off
PAUSE_SECONDS = 0.5
LEASED_SECONDS = 14.5  # and until all who look at the file have seen it, 15

log = logging.getLogger("agent")


class Mirror:
    """The keys as last seen, and the file that says them. Threads may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._heard = time.monotonic()
        self.revision = 0
        self._keys: dict[str, object] = {}
        self._leased: set[str] = set()
        self._written: dict | None = None
        with contextlib.suppress(OSError, ValueError, KeyError):
            known = json.loads(path.read_bytes())
            self.revision, self._keys, self._leased = known["revision"], known["keys"], set(known["leased"])
            self._heard -= max(0.0, time.time() - path.stat().st_mtime)

    def replace(self, kvs: list[dict], revision: int) -> None:
        """Take over a whole reading."""
        with self._lock:
            self._keys, self._leased = {}, set()
            for kv in kvs:
                self._put(kv)
            self._news(revision)

    def apply(self, events: list[dict], revision: int) -> None:
        """Take over a watch's events."""
        with self._lock:
            for event in events:
                if event.get("type") == "DELETE":
                    self._drop(_name(event["kv"]))
                else:
                    self._put(event["kv"])
            self._news(revision)

    def forget_leased(self) -> float:
        """Where there was no news for long, nobody knows whether the owners of these still live: they go.

        Returns the seconds until that has to be looked at again.
        """
        with self._lock:
            left = self._heard + LEASED_SECONDS - time.monotonic()
            if left <= 0:
                for name in list(self._leased):
                    self._drop(name)
                self._write(self.revision)
        return left if left > 0 else LEASED_SECONDS

    def _news(self, revision: int) -> None:
        self._write(revision)
        self._heard = time.monotonic()
        os.utime(self._path)

    def _put(self, kv: dict) -> None:
        name = _name(kv)
        self._drop(name)
        try:
            self._keys[name] = json.loads(b64decode(kv.get("value", "")))
        except ValueError:
            log.warning("%s is not JSON; left out", name)
            return
        if int(kv.get("lease", 0)):
            self._leased.add(name)

    def _drop(self, name: str) -> None:
        self._keys.pop(name, None)
        self._leased.discard(name)

    def _write(self, revision: int) -> None:
        self.revision = revision
        said = {"keys": self._keys, "leased": sorted(self._leased)}
        if said == self._written:
            return
        fresh = self._path.with_name(f"{self._path.name}.new")
        fresh.write_text(json.dumps({"revision": revision, **said}, indent=1, sort_keys=True) + "\n")
        fresh.chmod(0o644)
        fresh.replace(self._path)
        self._written = copy.deepcopy(said)


def _name(kv: dict) -> str:
    return b64decode(kv["key"])[len(PREFIX) :].decode("utf-8", "replace")


def follow(mirror: Mirror, etcd: Etcd, endpoint: str) -> Iterator[None]:
    """Read all keys, then watch them; yields whenever this member has said something. Ends when it falls silent.

    Raises OSError or http.client.HTTPException if the member does not answer, ValueError if it answers nonsense.
    """
    connection = _connect(etcd, endpoint)
    try:
        everything = {"key": _encode(PREFIX), "range_end": _encode(PREFIX[:-1] + bytes([PREFIX[-1] + 1]))}
        answer = json.loads(_post(connection, "/v3/kv/range", everything).read())
        revision = int(answer["header"]["revision"])
        mirror.replace(answer.get("kvs", []), revision)
        yield
        stream = _post(connection, "/v3/watch", {"create_request": {**everything, "start_revision": revision + 1}})
        while line := stream.readline():
            result = json.loads(line)["result"]
            if result.get("canceled"):
                return
            mirror.apply(result.get("events", []), int(result["header"]["revision"]))
            yield
    except TimeoutError:
        return
    finally:
        connection.close()


def _connect(etcd: Etcd, endpoint: str) -> http.client.HTTPConnection:
    url = urlsplit(endpoint)
    if url.scheme == "http":
        return http.client.HTTPConnection(url.hostname, url.port, timeout=QUIET_SECONDS)
    context = ssl.create_default_context(cafile=etcd.ca)
    context.load_cert_chain(etcd.cert, etcd.key)  # read anew for each connection: certificates are rotated
    return http.client.HTTPSConnection(url.hostname, url.port, timeout=QUIET_SECONDS, context=context)


def _post(connection: http.client.HTTPConnection, path: str, content: dict) -> http.client.HTTPResponse:
    connection.request("POST", path, json.dumps(content))
    response = connection.getresponse()
    if response.status != 200:
        raise http.client.HTTPException(f"{path}: {response.status} {response.read(200)!r}")
    return response


def _encode(key: bytes) -> str:
    return b64encode(key).decode("ascii")


def run(etcd: Etcd, path: Path) -> None:
    """Mirror until killed; another member is asked whenever one ends."""
    mirror = Mirror(path)
    threading.Thread(target=_forget, args=(mirror,), name="forget", daemon=True).start()
    endpoints = random.sample(etcd.endpoints, len(etcd.endpoints))
    away = False
    notify("READY=1")
    while True:
        endpoint = endpoints[0]
        endpoints = [*endpoints[1:], endpoint]
        try:
            for _ in follow(mirror, etcd, endpoint):
                if away:
                    log.info("following %s, revision %d", endpoint, mirror.revision)
                away = False
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            if not away:
                log.warning("%s: %s", endpoint, error)
            away = True
            time.sleep(PAUSE_SECONDS)


def _forget(mirror: Mirror) -> None:
    while True:
        time.sleep(mirror.forget_leased())


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        run(load_etcd(), PATH)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
