"""The proxies: nginx with both lanes, and the virtual address that keepalived moves between them."""

from __future__ import annotations

from pyinfra import host

from deploys import model
from deploys.debian_packages import DEBIAN_PACKAGES
from deploys.operations import installed_files, packages, running_unit
from deploys.proxy import config
from deploys.proxy.facts import InterfaceOf


def install() -> None:
    packages(name="proxy | packages", names=DEBIAN_PACKAGES["proxy"])


def configure() -> None:
    cluster, this = model.cluster(), model.this_host()
    installed_files(
        name="proxy | nginx: configuration and Lua program",
        component="proxy",
        files=config.nginx_files(cluster, this),
        directories={"/etc/nginx/lua": ("755", "root", "root")},
        validate=config.NGINX_VALID,
    )
    interface = this.data.get("proxy_interface") or host.get_fact(InterfaceOf, address=this.address)
    installed_files(
        name="proxy | keepalived: the virtual address",
        component="proxy-keepalived",
        files=config.keepalived_files(cluster, this, interface),
        validate=config.KEEPALIVED_VALID,
    )


def activate() -> None:
    this = model.this_host()
    port = this.data["proxy_port"]
    running_unit(
        name="proxy | nginx runs the configuration",
        unit="nginx.service",
        inputs=["/etc/nginx", "/etc/griddle/griddle.json"],
        reload=True,
        ready=f"curl -fsS -m 2 -o /dev/null http://127.0.0.1:{port}/healthz",
        _serial=True,  # one proxy is always left as it was
    )
    running_unit(
        name="proxy | keepalived runs the configuration",
        unit="keepalived.service",
        inputs=["/etc/keepalived"],
        reload=True,
        ready="systemctl is-active keepalived.service",
        _serial=True,
    )
