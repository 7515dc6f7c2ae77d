"""The app hosts' files, units and gates: pure."""

from __future__ import annotations

import shlex
from pathlib import Path

from cluster import settings
from cluster.model import Cluster, Host
from cluster.pki import places
from deploys.framework import tree
from deploys.framework.render import render
from deploys.framework.tree import File

HERE = Path(__file__).parent
RELEASES = "/opt/griddle/releases"
SLOTS = "/etc/griddle/slots"
INSTALL_RELEASE = "/usr/local/lib/griddle/install-release"
KINDS = ("store", "front", "feed")  # in the order in which they start
UNIT_FILES = {kind: f"/etc/systemd/system/griddle-{kind}@.service" for kind in KINDS}
CONFIGURATION = "/etc/griddle/griddle.toml"


def release_tool() -> dict[str, File]:
    """What unpacks a release."""
    return {INSTALL_RELEASE: File((HERE / "files" / "install-release").read_text(), "755")}


def files(cluster: Cluster, host: Host) -> dict[str, File]:
    """The services' configuration and units."""
    units = {
        path: File(render(HERE / "templates" / "worker.service.j2", kind=kind))
        for kind, path in UNIT_FILES.items()
    }
    return {
        **tree.files(settings.rendered(cluster, host)),
        **units,
        "/etc/systemd/system/griddle.target": File((HERE / "templates" / "griddle.target").read_text()),
        "/usr/local/lib/griddle/worker": File((HERE / "files" / "worker").read_text(), "755"),
    }


def directories() -> dict[str, tuple[str, str, str]]:
    return {
        "/opt/griddle": ("755", "root", "root"),
        RELEASES: ("755", "root", "root"),
        SLOTS: ("755", "root", "root"),
    }


def units(host: Host, slot: str) -> list[str]:
    """A slot's units on a host, in the order in which they are rolled."""
    return [
        *(
            f"griddle-{kind}@{slot}-{worker}.service"
            for kind in ("store", "front")
            for worker in range(host.data[f"{kind}_workers"])
        ),
        f"griddle-feed@{slot}.service",
    ]


def inputs(slot: str, store_engine: str) -> list[str]:
    """What a worker was started with, besides its release."""
    certificates = [places.SERVICES] if store_engine == "etcd" else []  # that engine reads them once
    worker = [*UNIT_FILES.values(), "/usr/local/lib/griddle/worker", f"{SLOTS}/{slot}/VERSION"]
    return [CONFIGURATION, *certificates, *worker]


def ready(host: Host, unit: str, version: str) -> str:
    """A shell command that succeeds when a worker serves: a front answers from the store, as this release."""
    kind, _, instance = unit.removeprefix("griddle-").removesuffix(".service").partition("@")
    if kind in ("store", "feed"):
        return f"systemctl is-active {shlex.quote(unit)}"
    slot, _, worker = instance.partition("-")
    port = settings.ports(host, kind, slot)[int(worker)]
    return (
        f"out=$(curl -sS -m 2 -D - http://127.0.0.1:{port}/readyz | tr -d '\\r') && echo \"$out\""
        f' && echo "$out" | head -n 1 | grep -q " 200 " && echo "$out" | grep -qx "X-Release: {version}"'
    )


def superfluous(present: list[str], keep: int, in_use: set[str]) -> list[str]:
    """Installed releases to remove, from `present`, newest first: all but those in use and the `keep` newest."""
    return [version for version in present[keep:] if version not in in_use]
