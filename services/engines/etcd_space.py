"""How full etcd is. At its quota it raises an alarm (NOSPACE) and refuses every key that is put, leases and locks
as well, until somebody disarms it; so the store's own writes stop before that, and leave the rest to the others.

The size that counts is that of a member's file (etcd 3.4, server/etcdserver/quota.go): it shrinks by
defragmentation alone.
"""

import http.client
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from urllib.parse import SplitResult

FULL_SHARE = 0.95
LOOK_SECONDS, LOOK_LEAST_SECONDS = 2.0, 0.1  # between two looks
LOOKS_LEFT = 4  # it is looked so often before FULL_SHARE would be reached, as fast as it grows
ANSWER_SECONDS = 2.0
QUOTA = re.compile(rb"^etcd_server_quota_backend_bytes (\S+)$", re.MULTILINE)

log = logging.getLogger("store")


def problem_of(member: str, status: dict, quota: float) -> str:
    """Why nothing more should be written, by a member's answer to maintenance/status; empty where it should be."""
    if any("alarm:NOSPACE" in error for error in status.get("errors", ())):
        return f"etcd has raised its alarm NOSPACE ({member} says so)"
    share = share_of(status, quota)
    return f"etcd on {member} uses {share:.0%} of its quota" if share >= FULL_SHARE else ""


def share_of(status: dict, quota: float) -> float:
    return int(status.get("dbSize", 0)) / quota if quota > 0 else 0.0


def pause_of(before: float, share: float, seconds: float) -> float:
    """How long to wait for the next look, where in the last `seconds` the share has grown so."""
    growth = (share - before) / seconds
    if growth <= 0:
        return LOOK_SECONDS
    return min(LOOK_SECONDS, max(LOOK_LEAST_SECONDS, (FULL_SHARE - share) / growth / LOOKS_LEFT))


class Space(threading.Thread):
    """Looks at every member, again and again. `problem` says why nothing more should be written, or is empty.

    A member that does not answer says nothing; where none does, `problem` stays as it was.
    """

    def __init__(
        self, endpoints: Sequence[SplitResult], connect: Callable[[SplitResult, float], http.client.HTTPConnection]
    ) -> None:
        """`connect` makes a connection to an endpoint, with a limit in seconds for each of its steps."""
        super().__init__(name="etcd-space", daemon=True)
        self.problem = ""
        self._endpoints, self._connect = endpoints, connect
        self._members: dict[SplitResult, tuple[http.client.HTTPConnection, float]] = {}
        self._ended = threading.Event()

    def end(self) -> None:
        self._ended.set()

    def run(self) -> None:
        pause, share, at = 0.0, 1.0, time.monotonic()
        while not self._ended.wait(pause):
            seen = [look for endpoint in self._endpoints if (look := self._look(endpoint))]
            pause = LOOK_SECONDS
            if seen:
                self._say(next((problem for problem, _ in seen if problem), ""))
                before, share = share, max(share for _, share in seen)
                last, at = at, time.monotonic()
                pause = pause_of(before, share, at - last)
        for connection, _ in self._members.values():
            connection.close()

    def _say(self, problem: str) -> None:
        if problem and not self.problem:
            log.warning("writes are refused: %s", problem)
        elif self.problem and not problem:
            log.warning("writes go on: etcd has room again")
        self.problem = problem

    def _look(self, endpoint: SplitResult) -> tuple[str, float] | None:
        """(problem, share of the quota) of one member; None where it does not answer."""
        try:
            if endpoint not in self._members:
                connection = self._connect(endpoint, ANSWER_SECONDS)
                # Another quota takes a restart, and that another connection.
                found = QUOTA.search(_asked(connection, "GET", "/metrics"))
                self._members[endpoint] = connection, float(found[1]) if found else 0.0
            connection, quota = self._members[endpoint]
            status = json.loads(_asked(connection, "POST", "/v3/maintenance/status", b"{}"))
        except (OSError, http.client.HTTPException, ValueError):
            if known := self._members.pop(endpoint, None):
                known[0].close()
            return None
        return problem_of(endpoint.hostname, status, quota), share_of(status, quota)


def _asked(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> bytes:
    connection.request(method, path, body)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != http.client.OK:
        raise http.client.HTTPException(f"{path}: {answer.status}")
    return content
