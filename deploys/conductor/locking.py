"""A pyinfra run holds the cluster's lock (deploys/conductor/lock.py) from its first operation to its end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from gevent.lock import RLock
from pyinfra import inventory, state
from pyinfra.api import OperationError
from pyinfra.api.host import Host as PyinfraHost
from pyinfra.api.state import BaseStateCallback, State

from cluster import model
from cluster.errors import Failure, UserError
from cluster.progress import say
from deploys.conductor import lock
from deploys.conductor.marking import run_title
from deploys.framework import remote
from deploys.framework.refusal import end_refused

_ASK_SECONDS = 5
_one_at_a_time = RLock()  # pyinfra prepares its hosts, and runs an operation on them, at the same time


def locked(title: str | None = None) -> None:
    """No other run changes the cluster meanwhile. Called at the top of a deploy that changes it.

    A run that is refused, now or when it begins, ends with exit code 2. A dry run takes nothing, and says who
    holds it.
    """
    with _one_at_a_time:
        if _holder() is not None:
            return
        holder = _Holder(title or run_title())
        state.add_callback_handler(holder)
        if "--dry" not in sys.argv:
            holder.refused_or(lambda: lock.await_free(*_members(), _wait_seconds()))
        elif other := lock.seen(*_members()):
            say(f"griddle: {holder.title}: {lock.held_by(other)}")


def held(title: str) -> lock.Lock:
    """The lock of this run, which has begun; taken now where its deploy did not call `locked`."""
    locked(title)
    return _holder().take()


def other() -> lock.Document | None:
    """Another run that holds the lock."""
    return lock.seen(*_members())


def _holder() -> _Holder | None:
    return next((each for each in state.callback_handlers if isinstance(each, _Holder)), None)


class _Holder(BaseStateCallback):
    """Takes it with the first operation, because before that pyinfra may wait for whoever is asked to confirm."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.lock: lock.Lock | None = None
        self._refused = self._released = False

    def take(self) -> lock.Lock:
        with _one_at_a_time:
            if self.lock is None:
                self.lock = self.refused_or(lambda: lock.take(self.title, *_members(), _wait_seconds()))
                remote.guards.append(self.lock.check)
            return self.lock

    def operation_host_start(self, state: State, host: PyinfraHost, op_hash: str) -> None:
        try:
            self.take().check()
        except Failure as failure:
            raise OperationError(f"{self.title}: {failure}") from None

    def host_disconnect(self, state: State, host: PyinfraHost) -> None:
        if self.lock is not None and not self._released:
            self._released = True
            remote.guards.remove(self.lock.check)
            self.lock.release()

    def refused_or(self, act: Callable[[], Any]) -> Any:
        try:
            if not self._refused:
                return act()
        except UserError as refusal:
            self._refused = True  # said once, not by each host
            say(f"griddle: {self.title}: {refusal}")
        end_refused()


def _members() -> tuple[list[str], lock.Ask]:
    """Also those that take no part in this run."""
    hosts = {model.short_name(each.name): each for each in inventory}

    def ask(name: str, script: str) -> list[str]:
        ok, output = remote.ask(hosts[name], script, "the cluster's lock", _ASK_SECONDS)
        if not ok:
            raise Failure(f"{name}: the cluster's lock: {output.output.strip() or 'no output'}")
        return output.stdout_lines

    return [member.name for member in model.cluster().group("etcd")], ask


def _wait_seconds() -> float:
    return float(model.cluster().data.get("lock_wait", lock.wait_seconds()))
