"""The components: what each checks of its data, for whoever reads an inventory."""

from __future__ import annotations

from cluster.check import Checks, refuse_bad_input, register
from deploys.app import checks as app
from deploys.backup import checks as backup
from deploys.base import checks as base
from deploys.etcd import checks as etcd
from deploys.firewall import checks as firewall
from deploys.foundationdb import checks as foundationdb
from deploys.metrics import checks as metrics
from deploys.proxy import checks as proxy

__all__ = ["refuse_bad_input"]

for _name, _checks in {
    "base": base.CHECKS,
    "firewall": firewall.CHECKS,
    "etcd": etcd.CHECKS,
    "foundationdb": foundationdb.CHECKS,
    "backup": backup.CHECKS,
    "metrics": metrics.CHECKS,
    "app": app.CHECKS,
    "agent": Checks(files=app.files),  # of the same release
    "proxy": proxy.CHECKS,
    "smoke": Checks(),
}.items():
    register(_name, _checks)
