"""The agent's files: pure."""

from __future__ import annotations

from pathlib import Path

from cluster import settings
from cluster.model import Cluster, Host
from deploys.app.config import CONFIGURATION, SLOTS
from deploys.framework import tree
from deploys.framework.render import render
from deploys.framework.tree import File

UNIT = "griddle-agent.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
TEMPLATES = Path(__file__).parent / "templates"


def files(cluster: Cluster, host: Host) -> dict[str, File]:
    """The unit, and the configuration that it reads, which proxies have before nginx needs it."""
    unit = render(
        TEMPLATES / "griddle-agent.service.j2",
        release=f"{SLOTS}/{slot(host)}",
        # The workers' sockets are in there, too; on a proxy, nginx has to be let in.
        mode="0750" if "apps" in host.groups else "0755",
    )
    return {**tree.files(settings.rendered(cluster, host)), UNIT_FILE: File(unit)}


def slot(host: Host) -> str:
    """The slot whose release the agent is of."""
    return next(iter(settings.slots(host)))


def inputs(host: Host) -> list[str]:
    """What the agent was started with."""
    return [UNIT_FILE, CONFIGURATION, f"{SLOTS}/{slot(host)}/VERSION"]
