"""An operation on the store is announced, so that requests wait for it instead of failing at their deadline.

Agents (services/agent.py) hand KEY of etcd to what serves requests. It hangs on a lease, so it ends with the
process that made it, within LEASE_SECONDS. An apply announces nothing: it holds the lock alone (lock.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import gevent

from cluster.errors import Failure
from cluster.progress import say
from deploys.conductor.lock import now
from deploys.framework import remote
from deploys.framework.gateway import Gateway, encode
from services.control import OPERATION_KEY

LEASE_SECONDS = 15
KEEP_ALIVE_SECONDS = 4
WAIT_MS = 3000


class Announcement:
    """It stands until `withdraw`; `check` raises once it may have ended."""

    def __init__(self, gateway: Gateway, lock: Mapping[str, Any], wait_ms: int = WAIT_MS) -> None:
        """Raises Failure where etcd does not take it. `lock`: the document of the lock that is held."""
        self.document = {**{key: lock[key] for key in ("operation", "owner", "started")}, "wait_ms": wait_ms}
        self._gateway = gateway
        self._alive_at = now()
        self._lease = str(gateway.call("lease/grant", {"TTL": LEASE_SECONDS})["ID"])
        value = encode(json.dumps(self.document))
        gateway.call("kv/put", {"key": encode(OPERATION_KEY), "value": value, "lease": self._lease})
        self._keeper = gevent.spawn(self._keep_alive)
        remote.guards.append(self.check)

    def check(self) -> None:
        """Raises Failure if the lease may have ended: clients would meet what is done at their usual deadline."""
        if now() - self._alive_at > LEASE_SECONDS:
            raise Failure("the operation is not announced any more: etcd could not be reached in time")

    def withdraw(self) -> None:
        """At once. Raises Failure where etcd cannot be told: it ends by itself then."""
        remote.guards.remove(self.check)
        self._keeper.kill()
        self._gateway.call("lease/revoke", {"ID": self._lease})

    def _keep_alive(self) -> None:
        while True:
            gevent.sleep(KEEP_ALIVE_SECONDS)
            asked_at = now()
            try:
                answer = self._gateway.call("lease/keepalive", {"ID": self._lease})
                if int(answer["result"]["TTL"]) > 0:
                    self._alive_at = asked_at
            except Exception as problem:  # whatever it is, the next attempt may succeed
                say(f"announcement: {problem}")
