"""The proxies: nginx with both lanes, and the virtual address that keepalived moves between them."""

from __future__ import annotations

from typing import TypedDict

from pyinfra import host

from cluster import model
from deploys.framework.debian_packages import DEBIAN_PACKAGES
from deploys.framework.operations import installed_files, packages, running_unit, valid_files
from deploys.framework.tree import File
from deploys.proxy import config
from deploys.proxy.facts import InterfaceOf


def install() -> None:
    packages(name="proxy | packages", names=DEBIAN_PACKAGES["proxy"])


def checked() -> None:
    """What this proxy is going to run is valid. Known before app hosts change: they do not do so in vain."""
    install()
    valid_files(name="proxy | nginx: the configuration to come is valid", **_nginx())
    valid_files(name="proxy | keepalived: the configuration to come is valid", **_keepalived())


def configure() -> None:
    installed_files(
        name="proxy | nginx: configuration and Lua program",
        **_nginx(),
        directories={"/etc/nginx/lua": ("755", "root", "root")},
    )
    installed_files(name="proxy | keepalived: the virtual address", **_keepalived())


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


class _Files(TypedDict):
    """What is validated before app hosts change, and what is installed after them: the same."""

    component: str
    files: dict[str, File]
    validate: str


def _nginx() -> _Files:
    files = config.nginx_files(model.cluster(), model.this_host())
    return {"component": "proxy", "files": files, "validate": config.NGINX_VALID}


def _keepalived() -> _Files:
    this = model.this_host()
    interface = this.data.get("proxy_interface") or host.get_fact(InterfaceOf, address=this.address)
    files = config.keepalived_files(model.cluster(), this, interface)
    return {"component": "proxy-keepalived", "files": files, "validate": config.KEEPALIVED_VALID}
