"""What the proxies' data must be."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.check import Checks
from cluster.data import HOST, Setting, limited
from cluster.forms import ADDRESS, PORT, YES_OR_NO, Form, one_of, or_empty, text
from cluster.model import Cluster, Host
from deploys.app import checks as app


def _is_interval(value: object) -> bool:
    return type(value) is int and 50 <= value <= 5000 and value % 10 == 0


SETTINGS = {
    "proxy_virtual_ip": Setting(ADDRESS),
    "proxy_interface": Setting(or_empty(text(r"[!-.0-~]{1,15}", "a network interface"), "by the address"), HOST),
    "proxy_port": Setting(PORT),
    # VRRP's unit is a hundredth of a second; lost are three intervals and a part of one
    "proxy_advert_ms": Setting(Form("a multiple of 10 from 50 to 5000", _is_interval)),
    "proxy_lane": Setting(one_of("direct", "wsgi")),
    "proxy_lane_override": Setting(YES_OR_NO),
    "proxy_deadline_ms": Setting(limited("proxy.deadline_ms")),
    "proxy_waiting_limit": Setting(limited("proxy.waiting_limit"), HOST),
}


def faults(cluster: Cluster) -> Iterator[str]:
    data = cluster.data
    for host in cluster.hosts.values():
        if host.address == data["proxy_virtual_ip"]:
            yield f"proxy_virtual_ip {host.address} is the address of {host.name}"
    if data["proxy_deadline_ms"] < data["metrics_promise_ms"]:
        yield (
            f"proxy_deadline_ms is {data['proxy_deadline_ms']}: reads would be given up before the promise's "
            f"{data['metrics_promise_ms']} ms (metrics_promise_ms) are over"
        )


def ports(cluster: Cluster, host: Host) -> Iterator[tuple[int, str]]:
    if "proxies" in host.groups:
        yield host.data["proxy_port"], "proxy_port"


CHECKS = Checks(settings=SETTINGS, faults=faults, ports=ports, files=app.files)  # where releases are: griddle.toml
