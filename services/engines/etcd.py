"""The embedded default engine: etcd 3.4+ through its JSON gateway (/v3/kv/txn), over kept-alive TLS
connections.

A version is the key's mod_revision, 8 bytes big-endian, and two zero bytes. Reads are linearisable: a
transaction that only reads goes through etcd's read index unless every part of it is `serializable`, which is
never set here. Documented limits that shape this file: 128 operations per transaction (--max-txn-ops), 1.5
MiB per request.

An append needs a position that nobody else takes: the revision in which the log's guard, one key for each
prefix, was written last, in a transaction that checks and writes the guard. Appends to one prefix therefore
commit one after another; one that finds another guard has written nothing, and is tried again with what it found.

The gateway calls its own gRPC endpoint with the server's certificate, so where etcd checks client
certificates that one needs both the serverAuth and the clientAuth usage.
"""

import http.client
import json
import random
import ssl
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from services.config import Etcd
from services.engines.base import (
    ABSENT,
    OPERATIONS_LIMIT,
    VERSION_BYTES,
    VERSION_PLACE,
    Conflict,
    EngineError,
    Full,
    Unavailable,
    appended_prefix,
    check_key,
    check_transaction,
)
from services.engines.etcd_space import Space

CONNECT_SHARE = 0.5  # of the time left: so that a dead member leaves time for another one
CONNECTION_ERRORS = (OSError, http.client.HTTPException)
GRPC_INVALID_ARGUMENT, GRPC_RESOURCE_EXHAUSTED, GRPC_OUT_OF_RANGE = 3, 8, 11
NO_SPACE = "database space exceeded"  # etcd has raised its alarm NOSPACE
MORE_BYTES = VERSION_BYTES - 8
GUARD_PREFIX = b"griddle/appended/"


class EtcdEngine:
    """One connection per thread, to one member; another member is tried when that one fails."""

    def __init__(self, config: Etcd, value_limit_bytes: int) -> None:
        self._value_limit_bytes = value_limit_bytes
        self._endpoints = [urlsplit(endpoint) for endpoint in config.endpoints]
        self._next = random.randrange(len(self._endpoints))
        self._tls = _tls_context(config)
        self._threads = threading.local()
        self._connections: set[http.client.HTTPConnection] = set()
        self._appending = threading.Lock()  # this process's appends take turns instead of meeting at the guard
        self._guards: dict[bytes, int] = {}  # by prefix the guard's last known revision
        self._space = Space(self._endpoints, self._connection)
        self._space.start()

    def get_many(self, keys: Sequence[bytes], timeout_ms: int) -> list[bytes | None]:
        deadline = time.monotonic() + timeout_ms / 1000
        records: list[bytes | None] = []
        revision = None
        for at in range(0, len(keys), OPERATIONS_LIMIT):
            # later chunks read at the revision that the first one saw: one moment for the whole batch
            extra = {} if revision is None else {"revision": revision}
            reads = [{"request_range": {"key": _encode(key), **extra}} for key in keys[at : at + OPERATIONS_LIMIT]]
            answer = self._read("/v3/kv/txn", {"success": reads}, deadline)
            revision = answer["header"]["revision"]
            for response in answer["responses"]:
                kvs = response["response_range"].get("kvs")
                records.append(_record(kvs[0]) if kvs else None)
        return records

    def range(
        self, begin: bytes, end: bytes, limit: int, timeout_ms: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        check_key(begin)
        if begin >= end or limit <= 0:
            return []
        query = {"key": _encode(begin), "range_end": _encode(end), "limit": limit}
        if reverse:
            query |= {"sort_order": "DESCEND", "sort_target": "KEY"}
        answer = self._read("/v3/kv/range", query, time.monotonic() + timeout_ms / 1000)
        return [(b64decode(kv["key"]), _record(kv)) for kv in answer.get("kvs", ())]

    def transact(
        self, checks: Mapping[bytes, bytes], writes: Mapping[bytes, bytes | None], timeout_ms: int
    ) -> bytes:
        check_transaction(checks, writes, self._value_limit_bytes)
        if any(value is not None for value in writes.values()):  # what only deletes makes room
            self.check_writable()
        deadline = time.monotonic() + timeout_ms / 1000
        compares = [_compare(key, int.from_bytes(version[:8], "big")) for key, version in checks.items()]
        prefix = appended_prefix(writes)
        if prefix is not None:
            return self._append(prefix, compares, writes, deadline)
        content = {"compare": compares, "success": [_put(key, value) for key, value in writes.items()]}
        answer = self._write("/v3/kv/txn", content, deadline)
        if not answer.get("succeeded"):
            raise Conflict(f"one of {len(checks)} checked keys has changed")
        return _version(answer["header"]["revision"])

    def check_writable(self) -> None:
        if problem := self._space.problem:
            raise Full(f"{problem}: nothing is written until it has room again")

    def _append(self, prefix: bytes, compares: list[dict], writes: Mapping, deadline: float) -> bytes:
        if not self._appending.acquire(timeout=max(0, deadline - time.monotonic())):
            raise Unavailable("etcd: other appends take too long")
        try:
            return self._append_next(prefix, compares, writes, deadline)
        finally:
            self._appending.release()

    def _append_next(self, prefix: bytes, compares: list[dict], writes: Mapping, deadline: float) -> bytes:
        guard = GUARD_PREFIX + prefix
        # where a comparison fails, the answer tells which: the guard's revision, then each checked key's
        looks = [_look(guard), *(_look(b64decode(compare["key"])) for compare in compares)]
        while time.monotonic() < deadline:
            last = self._guards.get(prefix, 0)
            position = _version(last)
            content = {
                "compare": [_compare(guard, last), *compares],
                "success": [
                    _put(guard, b""),
                    *(
                        _put(prefix + position if key.endswith(VERSION_PLACE) else key, value)
                        for key, value in writes.items()
                    ),
                ],
                "failure": looks,
            }
            answer = self._write("/v3/kv/txn", content, deadline)
            revision = int(answer["header"]["revision"])
            if answer.get("succeeded"):
                self._guards[prefix] = revision
                return _version(revision)
            seen = [_revision(response["response_range"]) for response in answer["responses"]]
            if seen[1:] != [int(c["mod_revision"]) for c in compares]:
                raise Conflict(f"one of {len(compares)} checked keys has changed")
            self._guards[prefix] = seen[0]
        raise Unavailable("etcd: other appends come first all the time; nothing was written")

    def close(self) -> None:
        self._space.end()
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def _read(self, path: str, content: dict, deadline: float) -> dict:
        """A call that may be repeated: each member is tried once, while there is time."""
        body = json.dumps(content).encode()
        error: Exception | None = None
        for _ in range(len(self._endpoints) + 1):  # + 1: a kept-alive connection may have gone stale
            try:
                return self._call(path, body, deadline)
            except Unavailable as unavailable:
                error = unavailable
                self._drop()
            if time.monotonic() >= deadline:
                break
        raise error or Unavailable("etcd: no time left")

    def _write(self, path: str, content: dict, deadline: float) -> dict:
        """A call that is sent once: repeated after an error it could overwrite what came between."""
        self._connected(deadline)
        try:
            return self._call(path, json.dumps(content).encode(), deadline)
        except Unavailable:
            self._drop()
            raise

    def _call(self, path: str, body: bytes, deadline: float) -> dict:
        connection = self._connected(deadline)
        try:
            connection.sock.settimeout(max(0.001, deadline - time.monotonic()))
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (*CONNECTION_ERRORS, ValueError) as error:
            raise Unavailable(
                f"etcd at {connection.host}:{connection.port}: {error or type(error).__name__}"
            ) from None
        if response.status == 200:
            return answer
        message = f"{_name(connection)}: {answer.get('message') or answer}"
        if answer.get("code") in (GRPC_INVALID_ARGUMENT, GRPC_OUT_OF_RANGE):
            raise EngineError(message)
        if answer.get("code") == GRPC_RESOURCE_EXHAUSTED and NO_SPACE in message:
            raise Full(message)
        raise Unavailable(message)

    def _connected(self, deadline: float) -> http.client.HTTPConnection:
        """This thread's connection, made if there is none, to the first member that accepts one."""
        connection = getattr(self._threads, "connection", None)
        if connection is not None and not _is_stale(connection):
            return connection
        self._drop()
        error: Exception | None = None
        for _ in self._endpoints:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            endpoint = self._endpoints[self._next % len(self._endpoints)]
            connection = self._connection(endpoint, max(0.001, left * CONNECT_SHARE))
            try:
                connection.connect()
            except CONNECTION_ERRORS as failed:
                connection.close()
                error = failed
                self._next += 1
                continue
            self._threads.connection = connection
            self._connections.add(connection)
            return connection
        raise Unavailable(f"etcd: no member accepts a connection ({error or 'no time left'})")

    def _connection(self, endpoint, timeout: float) -> http.client.HTTPConnection:
        if endpoint.scheme == "https":
            return http.client.HTTPSConnection(
                endpoint.hostname, endpoint.port or 2379, timeout=timeout, context=self._tls
            )
        return http.client.HTTPConnection(endpoint.hostname, endpoint.port or 2379, timeout=timeout)

    def _drop(self) -> None:
        connection = getattr(self._threads, "connection", None)
        if connection is not None:
            connection.close()
            self._connections.discard(connection)
            self._threads.connection = None
            self._next += 1


def _name(connection: http.client.HTTPConnection) -> str:
    return f"etcd at {connection.host}:{connection.port}"


def _tls_context(config: Etcd) -> ssl.SSLContext | None:
    if not config.ca:
        return None
    context = ssl.create_default_context(cafile=config.ca)
    if config.cert:
        context.load_cert_chain(config.cert, config.key)
    return context


def _is_stale(connection: http.client.HTTPConnection) -> bool:
    """The member closed the connection while it was idle (restart): data or an end of file waits on it."""
    if connection.sock is None:
        return True
    connection.sock.settimeout(0)
    try:
        return connection.sock.recv(1) is not None
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True


def _encode(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _version(revision: str | int) -> bytes:
    return int(revision).to_bytes(8, "big") + ABSENT[:MORE_BYTES]


def _compare(key: bytes, revision: int) -> dict:
    """True while the key was last written in this revision (0: while it does not exist)."""
    return {"key": _encode(key), "target": "MOD", "result": "EQUAL", "mod_revision": revision}


def _look(key: bytes) -> dict:
    return {"request_range": {"key": _encode(key), "keys_only": True}}


def _put(key: bytes, value: bytes | None) -> dict:
    if value is None:
        return {"request_delete_range": {"key": _encode(key)}}
    return {"request_put": {"key": _encode(key), "value": _encode(value)}}


def _revision(response: dict) -> int:
    kvs = response.get("kvs")
    return int(kvs[0]["mod_revision"]) if kvs else 0


def _record(kv: dict) -> bytes:
    return _version(kv["mod_revision"]) + b64decode(kv.get("value", ""))
