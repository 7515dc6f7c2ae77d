"""nftables: default deny; each port open to the groups that need it and to nobody else."""

from __future__ import annotations

from cluster import model
from deploys.firewall import config
from deploys.firewall.operations import debians_conf_left_alone, ruleset_in_force
from deploys.framework.access import require_own_connection
from deploys.framework.debian_packages import DEBIAN_PACKAGES
from deploys.framework.operations import installed_files, packages, running_unit


def install() -> None:
    packages(name="firewall | packages", names=DEBIAN_PACKAGES["firewall"])


def configure() -> None:
    flow = config.ssh(model.this_host())
    require_own_connection(lambda connection: config.shut_out(flow, connection))
    installed_files(name="firewall | unit", component="firewall", files=config.files())


def activate() -> None:
    this = model.this_host()
    ruleset_in_force(
        name="firewall | ruleset is in force, and lets a new connection in",
        ruleset=config.ruleset(model.cluster(), this),
    )
    running_unit(
        name="firewall | ruleset is loaded at boot",
        unit=config.UNIT,
        inputs=[config.KEPT],
        reload=True,
        ready="nft list chain inet griddle input >/dev/null",
        ready_seconds=5,
    )
    debians_conf_left_alone(name="firewall | /etc/nftables.conf is the host's own")
