"""What clients felt while an operation was under way: asked from outside, and counted in the proxies."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import gevent
from pyinfra.api import StringCommand
from pyinfra.api.host import Host as PyinfraHost

from deploys import shell

PER_SECOND = 10
LONGEST_SECONDS = 3600
PID = "/run/griddle-probe.pid"
# nginx/lua/waits.lua: requests of all clients, at this proxy, while the last operation was announced
WAITS = "curl -sS -m 3 http://127.0.0.1:{port}/waits"


class Probe:
    """Reads at the virtual address, one after another, from a host of the cluster.

    It ends with this process: what it prints goes through the deploy's connection, and nowhere else.
    """

    def __init__(self, on: PyinfraHost, url: str) -> None:
        self._on = on
        self._asking = gevent.spawn(on.run_shell_command, StringCommand(shell.command(script(url))), _sudo=True)

    def stop(self) -> dict[str, Any] | None:
        """What it saw; None if nothing."""
        self._on.run_shell_command(StringCommand(shell.command(f"kill $(cat {PID})")), _sudo=True)
        self._asking.join(timeout=10)
        if not self._asking.ready() or self._asking.exception:
            self._asking.kill()
            return None
        _, output = self._asking.value
        return summary(output.stdout_lines)


def script(url: str) -> str:
    """A shell command: a line with status and seconds for each read."""
    last = PER_SECOND * LONGEST_SECONDS
    numbered = shlex.quote(f"{url}?probe=[1-{last}]")
    return (
        f"curl -sS -m 10 --rate {PER_SECOND}/s -o /dev/null -w '%{{http_code}} %{{time_total}}\\n' {numbered} "
        f"2>/dev/null & echo $! > {PID}; wait $!; rm -f {PID}; true"
    )


def summary(lines: Iterable[str]) -> dict[str, Any] | None:
    """The probe's lines, added up. Failed: no answer, or one of 5xx."""
    asked = []
    for line in lines:
        with suppress(ValueError):
            status, seconds = line.split()
            asked.append((int(status), float(seconds)))
    if not asked:
        return None
    return {
        "reads": len(asked),
        "failed": sum(1 for status, _ in asked if not 200 <= status < 500),
        "longest_ms": round(max(seconds for _, seconds in asked) * 1000),
    }


def added_up(answers: Iterable[str], started: str) -> dict[str, Any]:
    """What the proxies counted, together, of the operation that was begun at `started`."""
    total = {"answered": 0, "waited": 0, "failed": 0, "longest_ms": 0}
    for answer in answers:
        seen = json.loads(answer)
        if seen.get("operation") == started:
            for name in ("answered", "waited", "failed"):
                total[name] += seen[name]
            total["longest_ms"] = max(total["longest_ms"], seen["longest_ms"])
    return total
