"""The gate at the end of a deploy: a read through the virtual address on both lanes, as a client would."""

from __future__ import annotations

import shlex

from deploys import gates, model

# A profile that nobody has: 404 from the store proves the path as well as 200 does.
PROBE = "/v1/profiles/griddle-smoke"


def probe(url: str, lane: str | None) -> str:
    """A shell command that succeeds when the store itself answered, on the wanted lane.

    :param lane: direct or wsgi, asked for and expected; None: whatever lane is the default
    """
    ask = f"-H 'X-Lane: {lane}' " if lane else ""
    expect = f"X-Lane: {lane}" if lane else "X-Lane: "
    return (
        f"out=$(curl -sS -m 3 -o /dev/null -D - {ask}{shlex.quote(url)}) || exit 1; "
        'echo "$out" | tr -d "\\r"; '
        f"echo \"$out\" | grep -qE '^HTTP/1.1 (200|404) ' && echo \"$out\" | grep -qi '^{expect}' "
        "&& echo \"$out\" | grep -qiE '^X-Release: .+'"
    )


def smoke() -> None:
    data = model.this_host().data
    url = f"http://{data['proxy_virtual_ip']}:{data['proxy_port']}"
    gates.wait_until(
        name="smoke | the virtual address answers, default lane",
        command=probe(url + PROBE, None),
        seconds=30,
        what=f"a read of {url}{PROBE}",
    )
    gates.wait_until(
        name="smoke | the WSGI lane answers",
        command=probe(url + PROBE, "wsgi" if data["proxy_lane_override"] else None),
        seconds=30,
        what=f"a read of {url}{PROBE} on the WSGI lane",
    )
