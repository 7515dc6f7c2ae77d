"""The proxies' files: pure."""

from __future__ import annotations

from pathlib import Path

from cluster import settings
from cluster.model import Cluster, Host
from deploys.framework import tree
from deploys.framework.render import render
from deploys.framework.tree import File
from deploys.proxy.nginx import NginxValues, check_conf, lua_files, nginx_conf

TEMPLATES = Path(__file__).parent / "templates"
HIGHEST_PRIORITY = 200
# Both read what is staged: nginx.conf names what it needs relative to nginx's prefix.
NGINX_VALID = (
    "nginx -t -q -p {root}/etc/nginx/ -c {root}/etc/nginx/nginx.conf"
    " && nginx -p {root}/etc/nginx/ -c {root}/etc/nginx/check.conf"
)
# The exit code says nothing: keepalived 2.2.7 ends its own test by SIGTERM to its whole process group, which is
# why it gets one of its own. A good file is one without remarks.
KEEPALIVED_VALID = (
    "seen=$(setsid --wait keepalived --config-test --use-file={root}/etc/keepalived/keepalived.conf 2>&1"
    ' | grep -v \'^Terminated$\' || true); [ -z "$seen" ] || { echo "$seen" >&2; exit 1; }'
)


def nginx_values(cluster: Cluster, host: Host) -> NginxValues:
    """What nginx.conf says on a proxy."""
    apps = cluster.group("apps")
    return NginxValues(
        fronts=sum(app.data["front_workers"] * len(settings.slots(app)) for app in apps),
        stores=sum(app.data["store_workers"] * len(settings.slots(app)) for app in apps),
        default_release=next(version for app in apps for version in settings.slots(app).values()),
        listen=str(host.data["proxy_port"]),
        backlog=host.data["front_backlog"],
        body_limit_bytes=host.data["store_value_limit_bytes"],
        deadline_ms=host.data["proxy_deadline_ms"],
    )


def nginx_files(cluster: Cluster, host: Host) -> dict[str, File]:
    """nginx, its Lua program, and the settings that this reads."""
    return {
        **tree.files(settings.rendered(cluster, host)),
        "/etc/nginx/nginx.conf": File(nginx_conf(nginx_values(cluster, host))),
        "/etc/nginx/check.conf": File(check_conf()),
        **{f"/etc/nginx/lua/{name}": File(content) for name, content in lua_files().items()},
        "/etc/systemd/system/nginx.service.d/griddle.conf": File((TEMPLATES / "nginx-override.conf").read_text()),
        "/etc/logrotate.d/nginx": File((TEMPLATES / "nginx-logrotate").read_text()),
    }


def keepalived_files(cluster: Cluster, host: Host, interface: str) -> dict[str, File]:
    """keepalived of one proxy. The inventory's order is the order in which proxies are preferred."""
    proxies = cluster.group("proxies")
    content = render(
        TEMPLATES / "keepalived.conf.j2",
        host=host,
        peers=[proxy for proxy in proxies if proxy != host],
        priority=max(1, HIGHEST_PRIORITY - 10 * proxies.index(host)),
        interface=interface,
        advert_seconds=f"{host.data['proxy_advert_ms'] / 1000:.2f}",
        port=host.data["proxy_port"],
        router_id=router_id(host.data["proxy_virtual_ip"]),
        virtual_ip=host.data["proxy_virtual_ip"],
    )
    return {"/etc/keepalived/keepalived.conf": File(content)}


def router_id(virtual_ip: str) -> int:
    """1 to 255, its own for each virtual address of a network: the address's last byte."""
    return int(virtual_ip.rpartition(".")[2]) or 255
