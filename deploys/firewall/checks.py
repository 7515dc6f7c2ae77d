"""What the firewall's data must be."""

from __future__ import annotations

from cluster.check import Checks
from cluster.data import HOST, Setting
from cluster.forms import PORT, networks, or_none

SETTINGS = {
    "firewall_ssh_from": Setting(networks(1)),
    "firewall_ssh_port": Setting(or_none(PORT, "ssh_port, else 22"), HOST),
}


CHECKS = Checks(settings=SETTINGS)
