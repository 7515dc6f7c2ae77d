"""The lab's hosts and groups, as `./griddle up` made them. Everything else is what production uses."""

from pathlib import Path as _Path

from deploys.components import refuse_bad_input as _refuse_bad_input
from ops.lab import state as _state

_checkout = _Path(__file__).resolve().parent.parent
_lab = _state.read(_checkout)
_plan = _state.plan(_checkout)
if not (_lab and _plan):
    raise SystemExit("griddle: there is no lab in this checkout; run ./griddle up")
_files = _state.LabFiles(_checkout)


def _group(name: str) -> list:
    return [
        (
            host.name,
            {
                "address": host.address,
                "ssh_hostname": host.address,
                "ssh_key": str(_files.key),
                "ssh_config_file": "/dev/null",  # the operator's own settings have no say in the lab
                "ssh_known_hosts_file": str(_files.known_hosts),
                "ssh_strict_host_key_checking": "yes",
                "store_engine": _lab.store,
                "proxy_virtual_ip": _plan.virtual_ip,
            },
        )
        for host in _plan.hosts
        if name in host.groups
    ]


proxies = _group("proxies")
apps = _group("apps")
etcd = _group("etcd")
fdb = _group("fdb")
metrics = _group("metrics")
load = []
spare = _group("spare")

_refuse_bad_input(__file__, globals())
