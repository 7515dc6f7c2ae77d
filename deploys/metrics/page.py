"""The board's files: the page, what it is told about the cluster, and nginx in front of the store. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cluster.model import Cluster
from deploys.framework.render import render
from deploys.framework.tree import File
from deploys.metrics.config import TEMPLATES, reporting, store

PAGE = Path(__file__).parent / "board"
ROOT = "/opt/griddle/board"
DIRECTORIES = {path: ("755", "root", "root") for path in (ROOT, f"{ROOT}/js")}
SERVICE = "nginx.service"
NGINX_CONF = "/etc/nginx/nginx.conf"
DROP_IN = f"/etc/systemd/system/{SERVICE}.d/griddle.conf"
VALID = f"nginx -t -q -c {{root}}{NGINX_CONF}"


@dataclass(frozen=True)
class BoardNginx:
    """What differs between the metrics host and a test on loopback."""

    listen: str
    store_port: int
    root: str = ROOT
    dygraphs: str = "/usr/share/javascript/dygraphs"
    user: str = "www-data"
    pid: str = "/run/nginx.pid"
    error_log: str = "/var/log/nginx/error.log"
    temp: str = "/var/lib/nginx"


def nginx_conf(values: BoardNginx) -> str:
    """nginx.conf of the board."""
    return render(TEMPLATES / "board.nginx.conf.j2", **vars(values))


def page_files() -> dict[str, str]:
    """{path below the page's root: content}"""
    return {str(path.relative_to(PAGE)): path.read_text() for path in sorted(PAGE.rglob("*")) if path.is_file()}


def told(cluster: Cluster) -> dict[str, object]:
    """What the page knows without the store: who should be there, and what is promised."""
    data = store(cluster).data
    reports = {host.name for host in reporting(cluster)}
    return {
        "name": cluster.name,
        "store": cluster.store_engine,
        "note": data["metrics_board_note"],
        "promise": {"within_ms": data["metrics_promise_ms"], "share": data["metrics_promise_share"]},
        "hosts": [
            {"name": host.name, "groups": sorted(host.groups), "reports": host.name in reports}
            for host in cluster.hosts.values()
        ],
    }


def files(cluster: Cluster) -> dict[str, File]:
    """The page, what it is told of the cluster, and nginx, on the metrics host."""
    data = store(cluster).data
    values = BoardNginx(listen=str(data["metrics_board_port"]), store_port=data["metrics_http_port"])
    return {
        **{f"{ROOT}/{name}": File(content) for name, content in page_files().items()},
        f"{ROOT}/cluster.json": File(json.dumps(told(cluster)) + "\n"),
        NGINX_CONF: File(nginx_conf(values)),
        DROP_IN: File((TEMPLATES / "board.nginx.service").read_text()),
    }
