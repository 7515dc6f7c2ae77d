"""/etc/griddle/griddle.toml: the one file that every service, the agent and (as JSON) nginx read."""

from __future__ import annotations

import json
from typing import Any

import tomli_w

from cluster import releases
from cluster.model import Cluster, Host
from cluster.pki import places
from services.config import slot_port


def ports(host: Host, what: str, slot: str) -> list[int]:
    """TCP ports of a host's workers. ``what`` is store or front."""
    return [slot_port(host.data[f"{what}_port"], slot, worker) for worker in range(host.data[f"{what}_workers"])]


def slots(host: Host) -> dict[str, str]:
    """{slot: release version} in use on a host."""
    return {slot: releases.version_of(version) for slot, version in host.data["app_slots"].items() if version}


def griddle(cluster: Cluster, host: Host) -> dict[str, Any]:
    """The configuration of one host, holding the sections that its groups read."""
    data = host.data
    config: dict[str, Any] = {
        "cluster": {"name": cluster.name},
        "host": {"name": host.name, "address": host.address},
        "statsd": {"host": "127.0.0.1", "port": data["metrics_statsd_port"]},
        "etcd": {
            "endpoints": [f"https://{h.address}:{h.data['etcd_client_port']}" for h in cluster.group("etcd")],
            "ca": f"{places.SERVICES}/ca.crt",
            "cert": f"{places.SERVICES}/client.crt",
            "key": f"{places.SERVICES}/client.key",
        },
    }
    if "apps" in host.groups:
        config["store"] = {
            "engine": data["store_engine"],
            "workers": data["store_workers"],
            "port": data["store_port"],
            "ipc": "/run/griddle/store-{slot}-{worker}.ipc",
            "max_batch": data["store_max_batch"],
            "deadline_ms": data["proxy_deadline_ms"],
            "value_limit_bytes": data["store_value_limit_bytes"],
        }
        config["front"] = {
            "workers": data["front_workers"],
            "port": data["front_port"],
            "backlog": data["front_backlog"],
        }
        config["feed"] = {"nudge": "ipc:///run/griddle/feed-{slot}.ipc", "poll_ms": data["feed_poll_ms"]}
        if cluster.store_engine == "fdb":
            config["fdb"] = {
                "cluster_file": "/etc/griddle/fdb/fdb.cluster",
                "client_library": "/opt/foundationdb/current/lib/libfdb_c.so",
                "external_client_directory": "/opt/foundationdb/clients",  # empty but during a minor upgrade
                "api_version": 730,
                "transaction_timeout_ms": 1000,
                "transaction_retry_limit": 3,
            }
            if data["fdb_tls"]:
                config["fdb"] |= {key: config["etcd"][key] for key in ("ca", "cert", "key")}
    if "proxies" in host.groups:
        config["proxy"] = {
            "lane": data["proxy_lane"],
            "lane_override": data["proxy_lane_override"],
            "deadline_ms": data["proxy_deadline_ms"],
            "waiting_limit": data["proxy_waiting_limit"],
            "upstreams": [
                {
                    "host": app.name,
                    "address": app.address,
                    "slot": slot,
                    "release": version,
                    "store_ports": ports(app, "store", slot),
                    "front_ports": ports(app, "front", slot),
                }
                for app in cluster.group("apps")
                for slot, version in slots(app).items()
            ],
        }
    return config


def rendered(cluster: Cluster, host: Host) -> dict[str, str]:
    """{path: content} of griddle.toml and its JSON twin."""
    config = griddle(cluster, host)
    return {
        "/etc/griddle/griddle.toml": tomli_w.dumps(config),
        "/etc/griddle/griddle.json": json.dumps(config, indent=1) + "\n",
    }
