"""The gates at the end of a deploy: a read through the virtual address on both lanes, as a client would, and
stores that take writes and are those that earlier deploys wrote to.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Generator
from pathlib import Path

from pyinfra import host, logger, state
from pyinfra.api import StringCommand, operation

from cluster import model
from deploys.conductor.probe import PROBE
from deploys.etcd.deploy import no_alarm
from deploys.framework import gates, units
from deploys.framework.remote import run

# On a proxy: the name that the first deploy gave that profile. An empty store, or another one, does not have it.
REMEMBERED = "/var/lib/griddle/smoke"
SCRIPT = Path(__file__).with_name("smoke.sh")
SECONDS = 30
# nginx hands it to the front whatever the lane of reads is, and the front asks the store; 507 where that is full.
WSGI_PROBE = "/readyz"


def probe(url: str, lane: str) -> str:
    """A shell command that succeeds when the store itself answered, on that lane (direct or wsgi)."""
    return (
        f"out=$(curl -sS -m 3 -o /dev/null -D - {shlex.quote(url)} | tr -d '\\r'); echo \"$out\"; "
        f"echo \"$out\" | grep -qE '^HTTP/1.1 (200|404) ' && echo \"$out\" | grep -qi '^X-Lane: {lane}' "
        "&& echo \"$out\" | grep -qiE '^X-Release: .+'"
    )


def remembers(url: str, name: str, file: str = REMEMBERED) -> str:
    """The shell command that runs smoke.sh."""
    return f"sh -c {shlex.quote(SCRIPT.read_text())} smoke {shlex.quote(url)} {name} {file}"


@operation()
def store_remembers(url: str) -> Generator[StringCommand]:
    """A gate: see smoke.sh. What it found is said.

    + url: of the profile
    """
    host.noop("see what it says")
    if state.is_executing:
        said = "/run/griddle-smoke"
        ask = f"{remembers(url, f'smoke-{secrets.token_hex(8)}')} > {said} 2>&1 || {{ cat {said}; false; }}"
        what = "the store is the one that earlier deploys wrote to"
        poll = units.ready_command(ask, SECONDS, what)
        line = " ".join(run(host, f"( {poll} ) || exit 1; cat {said}", what, SECONDS + 30))
        logger.info(f"{host.print_prefix}smoke: {line}")
    return
    yield


def smoke() -> None:
    """Reads, on each proxy; and that etcd takes writes, on each of its members."""
    groups = model.this_host().groups
    if "etcd" in groups:
        no_alarm(name="smoke | etcd has no alarm")
    if "proxies" in groups:
        _reads()


def _reads() -> None:
    data = model.this_host().data
    url = f"http://{data['proxy_virtual_ip']}:{data['proxy_port']}"
    gates.wait_until(
        name="smoke | the virtual address answers, default lane",
        command=probe(url + PROBE, data["proxy_lane"]),
        seconds=SECONDS,
        what=f"a read of {url}{PROBE}, {data['proxy_lane']} lane",
    )
    gates.wait_until(
        name="smoke | the WSGI lane answers",
        command=probe(url + WSGI_PROBE, "wsgi"),
        seconds=SECONDS,
        what=f"{url}{WSGI_PROBE}, WSGI lane",
    )
    if data["store_engine"] != "memory":  # which keeps nothing
        store_remembers(name="smoke | the store is the one that earlier deploys wrote to", url=url + PROBE)
