"""The only place where a deploy waits, besides a unit's own `ready`.

A gate is an operation that raises: pyinfra goes on after a failed host inside a serial operation, and
``_retry_until`` reports success when its retries are used up. An `OperationError` stops the run at once.
"""

from __future__ import annotations

import time
from collections.abc import Generator

from pyinfra import host, logger, state
from pyinfra.api import StringCommand, operation

from deploys.framework import units
from deploys.framework.remote import run


@operation()
def barrier() -> Generator[StringCommand]:
    """Every host calls this between two tiers.

    pyinfra orders operations by the hosts' first use of them, so tiers of hosts that differ in what they need
    interleave unless all hosts share an operation between them.
    """
    host.noop("tier complete")
    return
    yield


@operation()
def wait_until(command: str, seconds: int, what: str) -> Generator[StringCommand]:
    """Poll a command on this host until it exits 0.

    + command: a shell command; its output is shown when time runs out
    + seconds: how long to wait
    + what: what is awaited, for the message

    The gate changes nothing, so it yields nothing and a dry run skips it.
    """
    host.noop(what)
    if state.is_executing:
        start = time.monotonic()
        run(host, units.ready_command(command, seconds, what), what, seconds + 30)
        if (took := time.monotonic() - start) > 1:
            logger.info(f"{host.print_prefix}{what}: true after {took:.1f} s")
    return
    yield
