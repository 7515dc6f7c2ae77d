"""The gates at the end of a deploy: a read through the virtual address on both lanes, as a client would; and stores
that take writes.
"""

from __future__ import annotations

import shlex

from deploys import gates, model
from deploys.etcd.deploy import no_alarm

# A profile that nobody has: 404 from the store proves the path as well as 200 does.
PROBE = "/v1/profiles/griddle-smoke"
# nginx hands it to the front whatever the lane of reads is, and the front asks the store; 507 where that is full.
WSGI_PROBE = "/readyz"


def probe(url: str, lane: str) -> str:
    """A shell command that succeeds when the store itself answered, on that lane (direct or wsgi)."""
    return (
        f"out=$(curl -sS -m 3 -o /dev/null -D - {shlex.quote(url)} | tr -d '\\r'); echo \"$out\"; "
        f"echo \"$out\" | grep -qE '^HTTP/1.1 (200|404) ' && echo \"$out\" | grep -qi '^X-Lane: {lane}' "
        "&& echo \"$out\" | grep -qiE '^X-Release: .+'"
    )


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
        seconds=30,
        what=f"a read of {url}{PROBE}, {data['proxy_lane']} lane",
    )
    gates.wait_until(
        name="smoke | the WSGI lane answers",
        command=probe(url + WSGI_PROBE, "wsgi"),
        seconds=30,
        what=f"{url}{WSGI_PROBE}, WSGI lane",
    )
