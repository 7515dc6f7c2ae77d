"""What clients felt while an operation was under way: asked from outside, and counted in the proxies."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import gevent
from pyinfra.api.host import Host as PyinfraHost

from cluster import model
from cluster.errors import Failure
from deploys.framework import remote

_COUNTED = ("answered", "waited", "failed")

# What smoke.py asks for at the end of a deploy. For the path alone 404 from the store proves as much as 200.
PROBE = "/v1/profiles/griddle-smoke"
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
        self._asking = gevent.spawn(remote.ask, on, script(url), "probe", LONGEST_SECONDS + 60)

    def stop(self) -> dict[str, Any] | None:
        """What it saw; None if nothing. Raises Failure where it cannot be read."""
        remote.ask(self._on, f"kill $(cat {PID})", "probe", 10)
        try:
            _, output = self._asking.get(timeout=10)
        except gevent.Timeout:
            self._asking.kill()
            raise Failure(f"{model.short_name(self._on.name)}: probe: it does not end") from None
        return summary(output.stdout_lines)


def script(url: str) -> str:
    """A shell command: a line with status and seconds for each read."""
    last = PER_SECOND * LONGEST_SECONDS
    numbered = shlex.quote(f"{url}?probe=[1-{last}]")
    return (  # stdbuf, because it is killed before it would have written anything of a short operation
        f"stdbuf -oL curl -sS -m 10 --rate {PER_SECOND}/s -o /dev/null -w '%{{http_code}} %{{time_total}}\\n' "
        f"{numbered} 2>/dev/null & echo $! > {PID}; wait $!; rm -f {PID}; true"
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


Waits = dict[str, Any]


def waits(answer: str) -> Waits:
    """A proxy's answer: operation, answered, waited, failed, longest_ms. Raises Failure where it is none."""
    try:
        seen = json.loads(answer)
        return {"operation": seen["operation"], **{name: int(seen[name]) for name in (*_COUNTED, "longest_ms")}}
    except (ValueError, TypeError, KeyError):
        raise Failure(f"not an answer of /waits: {answer[:80]!r}") from None


def added_up(answers: Iterable[Waits], started: str) -> dict[str, Any]:
    """What the proxies counted, together, of the operation that was begun at `started`."""
    counted = [seen for seen in answers if seen["operation"] == started]
    total = {name: sum(seen[name] for seen in counted) for name in _COUNTED}
    return {**total, "longest_ms": max((seen["longest_ms"] for seen in counted), default=0)}
