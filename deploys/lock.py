"""The cluster's lock: one operation at a time changes the running cluster.

While an operation is under way, etcd holds `KEY`. It hangs on a lease that this process keeps alive, so it ends by
itself within LEASE_SECONDS after the process does, however that ended. It is the announcement as well: agents
(services/agent.py) hand it to what serves requests, which then lets them wait for the store up to `wait_ms`.
"""

from __future__ import annotations

import getpass
import json
import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import gevent

from deploys.etcd.gateway import Gateway, encode
from ops.errors import Failure, UserError
from ops.progress import say

KEY = "/griddle/operations/current"
LEASE_SECONDS = 15
KEEP_ALIVE_SECONDS = 4
WAIT_MS = 3000


class Lock:
    """The lock as held. `check` raises once it is not held any more."""

    def __init__(self, gateway: Gateway, lease: str, document: Mapping[str, Any]) -> None:
        self.document = document
        self._gateway, self._lease = gateway, lease
        self._alive_at = time.monotonic()
        self._keeper = gevent.spawn(self._keep_alive)

    def check(self) -> None:
        """Raises Failure if the lease may have ended: another operation may have begun."""
        if time.monotonic() - self._alive_at > LEASE_SECONDS:
            raise Failure("the operation's lease in etcd has ended: etcd could not be reached in time")

    def release(self) -> None:
        """Gives it back at once."""
        self._keeper.kill()
        self._gateway.call("lease/revoke", {"ID": self._lease})

    def _keep_alive(self) -> None:
        while True:
            gevent.sleep(KEEP_ALIVE_SECONDS)
            asked_at = time.monotonic()
            try:
                answer = self._gateway.call("lease/keepalive", {"ID": self._lease})
            except Failure as problem:
                say(f"lock: {problem}")
                continue
            if int(answer.get("result", {}).get("TTL", 0)) > 0:
                self._alive_at = asked_at


def owner() -> str:
    """Who holds a lock that this process takes: user@host."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def announcement(operation: str, wait_ms: int = WAIT_MS) -> dict[str, Any]:
    """What `KEY` holds."""
    return {
        "operation": operation,
        "owner": owner(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "wait_ms": wait_ms,
    }


def held_by(document: Mapping[str, Any]) -> str:
    """The line that refuses a second operation."""
    return (
        f"another operation is in progress: {document.get('operation')}, begun by {document.get('owner')} at "
        f"{document.get('started')}; wait for its end (its lock ends {LEASE_SECONDS} s after its process)"
    )


def seen(gateway: Gateway) -> dict[str, Any] | None:
    """The operation in progress."""
    found = gateway.get(KEY)
    return json.loads(found[0]) if found else None


def take(gateway: Gateway, document: Mapping[str, Any], sleep: Callable = gevent.sleep) -> Lock:
    """Takes the lock. What its own owner's killed process has left is waited for: its lease ends soon.

    :raises UserError: another operation is in progress
    """
    deadline = time.monotonic() + LEASE_SECONDS + 2
    told = False
    while True:
        lease = str(gateway.call("lease/grant", {"TTL": LEASE_SECONDS})["ID"])
        if gateway.call("kv/txn", put_if_absent(KEY, json.dumps(document), lease)).get("succeeded"):
            return Lock(gateway, lease, document)
        other = seen(gateway)
        if other == document:
            return Lock(gateway, lease, document)  # the answer to the put was lost, and it was sent again
        gateway.call("lease/revoke", {"ID": lease})
        if other is None:
            continue
        if other.get("owner") != document.get("owner") or time.monotonic() > deadline:
            raise UserError(held_by(other))
        if not told:
            told, operation = True, other.get("operation")
            say(f"waiting up to {LEASE_SECONDS} s for the lock of an earlier {operation} to end")
        sleep(1)


def put_if_absent(key: str, value: str, lease: str) -> dict[str, Any]:
    """A gateway transaction."""
    return {
        "compare": [{"key": encode(key), "target": "CREATE", "create_revision": "0"}],
        "success": [{"request_put": {"key": encode(key), "value": encode(value), "lease": lease}}],
    }
