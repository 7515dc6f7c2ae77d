"""nftables: default deny; each port open to the groups that need it and to nobody else."""

from __future__ import annotations

from deploys import model
from deploys.debian_packages import DEBIAN_PACKAGES
from deploys.firewall import config
from deploys.operations import installed_files, packages, running_unit


def install() -> None:
    packages(name="firewall | packages", names=DEBIAN_PACKAGES["firewall"])


def configure() -> None:
    installed_files(
        name="firewall | ruleset",
        component="firewall",
        files=config.files(model.cluster(), model.this_host()),
        validate="nft -c -f {root}/etc/nftables.conf",
    )


def activate() -> None:
    running_unit(
        name="firewall | ruleset is in force",
        unit="nftables.service",
        inputs=["/etc/nftables.conf"],
        reload=True,
        ready="nft list chain inet griddle input >/dev/null",
        ready_seconds=5,
    )
